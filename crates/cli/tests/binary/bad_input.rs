//! Bad input gives one line that names it and how to mend it, an exit code by kind, and leaves nothing behind.

use std::{net::TcpListener, process::Command};

use anyhow::{Context as _, Result};
use headpond_tests::{Minio, free_port};

use crate::ground::{Ground, stderr};

/// Runs `command`, which must fail with `code` and one line that says all of `says`, and leave everything as it was.
fn refuses(ground: &Ground, mut command: Command, code: i32, says: &[&str]) -> Result<()> {
    let before = ground.inventory()?;
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?} said: {said}");
    assert!(said.starts_with("headpond: ") && said.trim_end().lines().count() == 1, "{command:?} said: {said}");
    for text in says {
        assert!(said.contains(text), "{command:?} does not say {text:?} but: {said}");
    }
    assert_eq!(ground.inventory()?, before, "{command:?} left something behind");
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
        (&["worker"], &["cache directory"]),
        (&["worker", "--dir", "/tmp/x"], &["DIR=SIZE"]),
        (&["fs", "ls", "relative"], &["relative", "/relative"]),
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
        let _taken = TcpListener::bind(("127.0.0.1", port))?;
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
    refuses(&ground, ground.up_command(&["--no-mount"]), 15, &["99", "release"])
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
fn an_unreachable_master_is_named() -> Result<()> {
    let ground = Ground::new()?;
    let mut command = ground.command(&["fs", "ls", "/"]);
    command.env("HEADPOND_CLIENT__METADATA_TIMEOUT", "200ms");
    refuses(&ground, command, 10, &[&ground.master(), "Connection refused"])
}
