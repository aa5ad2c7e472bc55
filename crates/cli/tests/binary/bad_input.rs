//! Bad input gives one line that names it and how to mend it, an exit code by kind, and leaves nothing behind.

use std::{
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};
use headpond_tests::{Minio, eventually, free_port};

use crate::ground::{Ground, stderr, stdout};

/// Runs `command`, which must fail with `code` and one line that says all of `says`.
fn fails(mut command: Command, code: i32, says: &[&str]) -> Result<Output> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot run {command:?}"))?;
    // What is wrongly accepted may run until it is told to end.
    let ended = eventually(&format!("{command:?} ends"), || Ok(child.try_wait()?.is_some()));
    if ended.is_err() {
        child.kill()?;
    }
    let output = child.wait_with_output()?;
    ended?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?} said: {said}");
    assert!(said.starts_with("headpond: ") && said.trim_end().lines().count() == 1, "{command:?} said: {said}");
    for text in says {
        assert!(said.contains(text), "{command:?} does not say {text:?} but: {said}");
    }
    Ok(output)
}

/// The same, and `command` must leave everything as it was.
fn refuses(ground: &Ground, command: Command, code: i32, says: &[&str]) -> Result<()> {
    let (before, shown) = (ground.inventory()?, format!("{command:?}"));
    fails(command, code, says)?;
    assert_eq!(ground.inventory()?, before, "{shown} left something behind");
    Ok(())
}

#[test]
fn a_wrong_command_line_is_refused() -> Result<()> {
    let ground = Ground::new()?;
    for (arguments, says) in [
        (&["up", "--frobnicate"][..], &["--frobnicate", "headpond up --help"][..]),
        (&["up", "gopher://hole"], &["gopher", "s3://bucket/prefix"]),
        (&["up", "no-such-directory"], &["no-such-directory", "s3://bucket/prefix"]),
        (&["up", "s3://"], &["names no bucket"]),
        (&["up", "--sync-interval", "soon"], &["\"soon\" is neither a duration", "never"]),
        (&["up", "--cache-size", "big"], &["\"big\" is not a size"]),
        (&["up", "-o", "writable"], &["writable", "dataset"]),
        (&["up", "--no-mount", "--log-level", "loud=very"], &["log level \"loud=very\""]),
        (&["up", "--no-mount", "--log-level", "debgu"], &["log level \"debgu\"", "debug"]),
        (&["up", "--durability", "maybe"], &["maybe", "through, async, deferred, scratch"]),
        (&["up", "--durability-rule", "*.tmp"], &["\"*.tmp\" is no rule", "PATTERN=DURABILITY"]),
        (&["up", "--copies", "0"], &["--copies", "0 is not in 1.."]),
        (&["worker"], &["cache directory"]),
        (&["worker", "--dir", "/tmp/x"], &["DIR=SIZE"]),
        (&["worker", "--dir", "x=1GiB", "--http-bind", "", "--master", "nowhere"], &["\"nowhere\"", "host:port"]),
        (&["fs", "ls", "relative"], &["relative", "/relative"]),
        (&["admin", "problems", "forget", "/x"], &["unrecognized subcommand 'forget'"]),
        (&["fs", "cat", "--range", "9-1", "/x"], &["9-1"]),
        (&["frobnicate"], &["unrecognized subcommand 'frobnicate'"]),
    ] {
        refuses(&ground, ground.command(arguments), 2, says)?;
    }
    Ok(())
}

#[test]
fn a_wrong_configuration_is_refused() -> Result<()> {
    let ground = Ground::new()?;
    for (text, says) in [
        ("[worker]\nnod = 'x'", &["worker.nod", "bad.toml", "did you mean `node`"][..]),
        ("[worker]\nnode = 'x", &["bad.toml", "line 2"]),
        ("[master]\nheartbeat = 5", &["master.heartbeat", "bad.toml", "duration"]),
        (
            "[worker]\ndirs = [{path = 'a', capacity = '1GiB', size = 1}]",
            &["worker.dirs.0.size", "bad.toml", "capacity"],
        ),
    ] {
        ground.write("bad.toml", text)?;
        refuses(&ground, ground.command(&["config", "show", "-c", "bad.toml"]), 2, says)?;
        refuses(&ground, ground.command(&["up", "--config", "bad.toml"]), 2, says)?;
    }
    let absent = ground.command(&["config", "show", "-c", "absent.toml"]);
    refuses(&ground, absent, 2, &["cannot read the configuration file absent.toml"])?;
    let mut from_environment = ground.command(&["config", "show"]);
    from_environment.env("HEADPOND_WORKER__NOD", "x");
    refuses(&ground, from_environment, 2, &["worker.nod", "HEADPOND_WORKER__NOD"])
}

#[test]
fn a_port_in_use_is_refused() -> Result<()> {
    let ground = Ground::new()?;
    for port in [ground.master_port, ground.worker_port, ground.http_port] {
        // Who looked whether it is free may have left it, for a moment, to a process that another test was just starting.
        let mut taken = None;
        eventually("the port is ours", || {
            taken = TcpListener::bind(("127.0.0.1", port)).ok();
            Ok(taken.is_some())
        })?;
        refuses(&ground, ground.up_command(&["--no-mount"]), 4, &[&format!("127.0.0.1:{port}")])?;
    }
    Ok(())
}

#[test]
fn an_unfit_mount_point_is_refused() -> Result<()> {
    let ground = Ground::new()?;
    ground.write("file", "")?;
    ground.write("full/file", "")?;
    refuses(&ground, ground.up_command(&["file://.", "x"]), 2, &["is not absolute"])?;
    let lake = ground.path("full").display().to_string();
    refuses(&ground, ground.up_command(&[&lake, "file"]), 6, &["file is not a directory"])?;
    refuses(&ground, ground.up_command(&[&lake, "file/below"]), 6, &["is not a directory"])?;
    refuses(&ground, ground.up_command(&[&lake, "full"]), 5, &["full is not empty"])
}

#[test]
fn state_of_a_newer_release_is_refused() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.up(&["--no-mount"])?.interrupt()?;
    let format = ground.path(".headpond/master/journal/version");
    std::fs::write(&format, "99\n").context("the journal says its format here")?;
    refuses(&ground, ground.up_command(&["--no-mount"]), 15, &["99", "release"])?;
    std::fs::write(&format, "1\n")?;

    // A cache says its layout in the header of its index, which has a checksum.
    let index = ground.path(".headpond/worker/cache/index");
    let mut header = std::fs::read(&index)?;
    header[8] = 99;
    let sum = crc32c::crc32c(&header[..36]).to_le_bytes();
    header[36..40].copy_from_slice(&sum);
    std::fs::write(&index, header)?;
    refuses(&ground, ground.up_command(&["--no-mount"]), 15, &["worker/cache", "99", "release"])
}

#[test]
fn state_that_cannot_be_had_is_refused() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.up(&["--no-mount"])?;
    let master =
        |dir: &str| ground.command(&["master", "--bind", "127.0.0.1:0", "--http-bind", "", "--state-dir", dir]);
    ground.write("file", "")?;
    refuses(&ground, master(".headpond/master"), 17, &[".headpond/master", "used by another process"])?;
    refuses(&ground, master("file"), 6, &["file", "name another"])?;
    refuses(&ground, master("file/below"), 6, &["file/below", "name another"])
}

#[test]
fn a_bucket_that_cannot_be_listed_is_refused() -> Result<()> {
    let ground = Ground::new()?;
    let minio = Minio::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(minio.bucket("present"))?;
    let up = |bucket: &str, endpoint: &str, secret: &str| {
        let mut command = ground.up_command(&[bucket, "--no-mount", "--endpoint", endpoint, "--region", "us-east-1"]);
        command.env("AWS_ACCESS_KEY_ID", Minio::ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret);
        command
    };
    let (endpoint, secret) = (minio.endpoint(), Minio::SECRET_KEY);
    refuses(&ground, up("s3://absent", &endpoint, secret), 9, &["s3://absent", "create it"])?;
    refuses(&ground, up("s3://present", &endpoint, "wrong"), 9, &["s3://present", "credentials"])?;
    let mut named = up("s3://present", &endpoint, secret);
    named.args(["--credentials", "nobody"]);
    refuses(&ground, named, 2, &["\"nobody\"", "[credentials.nobody]"])?;
    let nowhere = format!("http://127.0.0.1:{}", free_port()?);
    let mut unreachable = up("s3://present", &nowhere, secret);
    unreachable.env("HEADPOND_MASTER__STORE_DEADLINE", "1s");
    refuses(&ground, unreachable, 10, &["s3://present"])
}

#[test]
fn a_mount_that_cannot_be_is_refused_and_nothing_is_mounted() -> Result<()> {
    let minio = Minio::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(minio.bucket("present"))?;
    let mut ground = Ground::new()?;
    ground.write("data/file", "x")?;
    ground.write("other/x", "x")?;
    let (data, other) = (format!("file://{}", ground.path("data").display()), ground.path("other"));
    let (other, endpoint) = (format!("file://{}", other.display()), format!("endpoint={}", minio.endpoint()));
    ground.write(
        "c.toml",
        format!(
            "[credentials.good]\naccess_key_id = '{0}'\nsecret_access_key = '{1}'\n\
             [credentials.bad]\naccess_key_id = '{0}'\nsecret_access_key = 'hunter2'",
            Minio::ACCESS_KEY,
            Minio::SECRET_KEY
        ),
    )?;
    ground.up(&[&data, "--no-mount", "--config", "c.toml"])?;
    assert!(ground.run(&["fs", "ls", "/"])?.status.success());
    let before = stdout(&ground.run(&["admin", "mounts", "-o", "json"])?);

    let bucket = |bucket: &'static str, credentials: &'static str| {
        let options = [endpoint.as_str(), "region=us-east-1", "path_style=true", credentials];
        let options = options.into_iter().flat_map(|option| ["--option", option]);
        ["/m", bucket].into_iter().chain(options).collect::<Vec<_>>()
    };
    for (arguments, code, says) in [
        (vec!["/m", "gopher://hole"], 2, &["gopher", "s3://bucket/prefix"][..]),
        (vec!["/m", "s3://id:hunter2@bucket"], 2, &["option credentials"]),
        (vec!["/m", "file://."], 2, &["is not absolute"]),
        (vec!["relative", &other], 2, &["relative", "/relative"]),
        (vec!["/m", "s3://b", "--option", "frob=1"], 2, &["/m", "frob", "endpoint"]),
        (vec!["/m", "s3://b", "--option", "frob"], 2, &["KEY=VALUE"]),
        (vec!["/m", &other, "--sync-interval", "soon"], 2, &["\"soon\"", "never"]),
        (vec!["/m", &other, "--file-mode", "999"], 2, &["\"999\"", "octal"]),
        (bucket("s3://present", "credentials=nobody"), 2, &["/m", "[credentials.nobody]"]),
        (bucket("s3://present", "credentials=bad"), 9, &["/m", "s3://present", "credentials"]),
        (bucket("s3://absent", "credentials=good"), 9, &["/m", "s3://absent", "create it"]),
        (vec!["/m", "file:///no/such/directory"], 9, &["/m", "/no/such/directory", "create"]),
        (vec!["/", &other], 4, &["/ is a mount point already"]),
        (vec!["/file/below", &other], 6, &["/file is a file"]),
    ] {
        let command = ground.command(&[&["admin", "mount", "add"], &arguments[..]].concat());
        let output = fails(command, code, says)?;
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
        assert_eq!(stdout(&ground.run(&["admin", "mounts", "-o", "json"])?), before, "{arguments:?}");
    }
    let log = ground.process.as_ref().context("runs")?.output();
    assert!(!log.contains("hunter2"), "{log}");

    // Mounts may lie in each other, and are as they were asked for; who is asked to take one away from under another refuses.
    for path in ["/m/inner", "/m"] {
        assert!(ground.run(&["admin", "mount", "add", path, &other, "--read-only"])?.status.success());
    }
    let mounts = stdout(&ground.run(&["admin", "mounts"])?);
    assert!(mounts.lines().skip(1).all(|line| line.contains("read only") == line.starts_with("/m")), "{mounts}");
    assert_eq!(stdout(&ground.run(&["fs", "cat", "/m/inner/x", "/m/x", "/file"])?), "xxx");
    fails(ground.command(&["admin", "mount", "remove", "/m"]), 5, &["/m/inner", "first"])?;
    fails(ground.command(&["admin", "mount", "remove", "/none"]), 3, &["/none", "headpond admin mounts"])?;
    Ok(())
}

#[test]
fn an_unfit_mount_point_of_a_mount_alone_is_refused() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("file", "")?;
    ground.write("full/file", "")?;
    std::fs::create_dir(ground.path("empty"))?;
    ground.up(&["--no-mount"])?;
    for (arguments, code, says) in [
        (&["absent"][..], 3, &["absent does not exist", "create it"][..]),
        (&["file"], 6, &["file is not a directory"]),
        (&["full"], 5, &["full is not empty", "nonempty"]),
        (&["empty", "--root", "/absent"], 3, &["/absent does not exist"]),
        (&["empty", "--root", "/README.txt"], 6, &["/README.txt is not a directory"]),
        (&["empty", "--master", "nowhere"], 2, &["\"nowhere\"", "host:port"]),
        (&["empty", "-o", "writable"], 2, &["writable", "dataset"]),
    ] {
        fails(ground.command(&[&["mount", "--http-bind", ""], arguments].concat()), code, says)?;
    }
    Ok(())
}

#[test]
fn a_cache_that_is_not_to_be_had_is_refused() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.up(&["--no-mount"])?;
    let taken = ["worker", "--dir", ".headpond/worker/cache=1GiB", "--bind", "127.0.0.1:0", "--http-bind", ""];
    fails(ground.command(&taken), 17, &["worker/cache", "in use by another process"])?;
    let port = format!("127.0.0.1:{}", ground.worker_port);
    let port_taken = ["worker", "--dir", "other=1GiB", "--bind", &port, "--http-bind", ""];
    fails(ground.command(&port_taken), 4, &[&port, "choose another address"])?;
    assert!(!ground.path("other").exists(), "nothing half-done");
    Ok(())
}

#[test]
fn an_unreachable_master_is_named() -> Result<()> {
    let ground = Ground::new()?;
    let mut command = ground.command(&["fs", "ls", "/"]);
    command.env("HEADPOND_CLIENT__METADATA_TIMEOUT", "200ms");
    refuses(&ground, command, 10, &[&ground.master(), "Connection refused"])
}
