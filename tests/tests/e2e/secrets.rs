//! Secrets stay in the processes that need them (P10).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, Minio, http_get, noise};

use crate::lake::Lake;

/// Secrets that no store accepts, one for each place where a secret can stand.
const WRONG_SECRET: &str = "Wr0ngSecretOfTheTest";
const WRONG_TOKEN: &str = "Wr0ngTokenOfTheTest";
const AWS_SECRET: &str = "Wr0ngSecretOfTheEnvironment";

/// Every secret that is in play.
const SECRETS: [&str; 4] = [Minio::SECRET_KEY, WRONG_SECRET, WRONG_TOKEN, AWS_SECRET];

fn holds_none(what: &str, bytes: &[u8]) -> Result<()> {
    for secret in SECRETS {
        // Base64 and hexadecimal text of it would be no better.
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        let hexadecimal = hex::encode(secret);
        let encoded =
            bytes.windows(hexadecimal.len()).any(|window| window.eq_ignore_ascii_case(hexadecimal.as_bytes()));
        ensure!(!found && !encoded, "{what} holds the secret {secret}");
    }
    Ok(())
}

/// Looks into every file below `folder` except the one that the secret is configured in; answers how many.
fn search(folder: &Path) -> Result<usize> {
    let mut files = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = path.symlink_metadata()?.file_type();
        if kind.is_dir() {
            files += search(&path)?;
        } else if kind.is_file() && path.file_name().is_some_and(|name| name != "secret") {
            holds_none(&path.display().to_string(), &std::fs::read(&path)?)?;
            files += 1;
        }
    }
    Ok(files)
}

#[test]
fn no_secret_is_written_shown_or_told() -> Result<()> {
    let lake = Lake::of([("d/a", noise(1, 2 << 20)), ("d/b", noise(2, 1000))])?;
    let environment = [
        ("HEADPOND_LOG__LEVEL", "trace"),
        ("HEADPOND_CREDENTIALS__WRONG__ACCESS_KEY_ID", Minio::ACCESS_KEY),
        ("HEADPOND_CREDENTIALS__WRONG__SECRET_ACCESS_KEY", WRONG_SECRET),
        ("HEADPOND_CREDENTIALS__WRONG__SESSION_TOKEN", WRONG_TOKEN),
        ("AWS_ACCESS_KEY_ID", Minio::ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
    ];
    let builder = environment.iter().fold(lake.cluster().workers(2), |builder, (key, value)| builder.env(key, value));
    let mut cluster = builder.start()?;
    for name in ["d/a", "d/b"] {
        std::fs::read(cluster.path(0, name))?;
    }
    let mut told = String::new();
    let mut tell = |arguments: &[&str]| -> Result<bool> {
        let output = cluster.run(arguments)?;
        told += &String::from_utf8_lossy(&output.stdout);
        told += &String::from_utf8_lossy(&output.stderr);
        Ok(output.status.success())
    };
    // Credentials that fail: by name, from the environment, and a secret where none may stand.
    let endpoint = format!("endpoint={}", lake.proxy.endpoint());
    let add =
        ["admin", "mount", "add", "/x", "s3://lake", "--option", &endpoint, "--option", "region=us-east-1", "--option"];
    for option in ["credentials=wrong", "path_style=true", &format!("secret_access_key={WRONG_SECRET}")] {
        ensure!(!tell(&[&add[..], &[option]].concat())?, "mounted with {option}");
    }
    let with_secret = format!("s3://{}:{WRONG_SECRET}@lake", Minio::ACCESS_KEY);
    ensure!(!tell(&["admin", "mount", "add", "/x", &with_secret])?, "mounted with a secret in the URI");
    for arguments in [
        &["admin", "mounts", "-o", "json"][..],
        &["admin", "workers", "-o", "json"],
        &["admin", "status", "-o", "json"],
        &["fs", "cat", "--log-level", "trace", "/d/b"],
    ] {
        ensure!(tell(arguments)?, "headpond {arguments:?} failed");
    }
    // The settings of a process, with all of its environment.
    let file = cluster.folder().join("master.toml").display().to_string();
    for format in ["json", "text"] {
        let mut show = headpond_tests::Command::new(headpond_tests::headpond_binary()?);
        show.args(["config", "show", "--for", "master", "-c", &file, "-o", format]).envs(environment);
        let output = show.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && text.contains("[redacted]"), "{text}");
        told += &text;
    }
    holds_none("what commands say", told.as_bytes())?;

    let Cluster { master, workers, mounts, .. } = &mut cluster;
    for part in std::iter::once(master).chain(workers).chain(mounts) {
        for path in ["/metrics", "/healthz", "/readyz"] {
            holds_none(path, http_get(part.http_port(), path)?.1.as_bytes())?;
        }
        let id = part.process()?.id();
        holds_none("a command line", &std::fs::read(format!("/proc/{id}/cmdline"))?)?;
        let log = part.output();
        ensure!(log.contains("TRACE"), "the log is not that of level trace");
        part.stop()?;
    }
    let files = search(cluster.folder())?;
    ensure!(files > 10, "journal, tables, indexes, pages and logs are more than {files} files");
    // What was sent is signed, not told.
    let asked = lake.proxy.requests();
    ensure!(!asked.is_empty(), "nothing was asked");
    for request in asked {
        holds_none("a request", request.target.as_bytes())?;
    }
    Ok(())
}

#[test]
fn up_with_keys_in_the_environment_tells_none() -> Result<()> {
    let lake = Lake::of([("a", "1")])?;
    let mut pond = lake.pond().arg("--log-level").arg("trace").start()?;
    std::fs::read(pond.path("a"))?;
    let id = pond.process()?.id();
    holds_none("the command line", &std::fs::read(format!("/proc/{id}/cmdline"))?)?;
    holds_none("the metrics", http_get(pond.http_port(), "/metrics")?.1.as_bytes())?;
    holds_none("the mounts", pond.run_ok(&["admin", "mounts", "-o", "json"])?.as_bytes())?;
    pond.stop()?;
    ensure!(pond.output().contains("TRACE"), "the log is not that of level trace");
    holds_none("the log", pond.output().as_bytes())?;
    let files = search(&pond.state_dir()).context("the state directory")?;
    ensure!(files > 5, "only {files} files of state");
    Ok(())
}
