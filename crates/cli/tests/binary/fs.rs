//! `headpond fs` and `headpond admin` against a running pond.

use anyhow::{Context as _, Result};
use headpond_tests::eventually;
use sha2::Digest as _;

use crate::ground::{Ground, json, stderr, stdout, text};

/// A pond over a small tree.
fn pond() -> Result<Ground> {
    let mut ground = Ground::new()?;
    ground.write("data/a.txt", "one\ntwo\nthree\n")?;
    ground.write("data/dir/b.bin", vec![7; 3 << 20])?;
    ground.write("data/dir/deep/c.csv", "x,y\n")?;
    let data = ground.path("data").display().to_string();
    ground.up(&[&data, "--no-mount"])?;
    Ok(ground)
}

#[test]
fn what_is_there_is_listed_found_and_summed() -> Result<()> {
    let ground = pond()?;
    assert_eq!(text(&ground, &["fs", "ls", "/"])?, "a.txt\ndir\n");
    let recursive = text(&ground, &["fs", "ls", "-R", "/"])?;
    let mut lines: Vec<_> = recursive.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a.txt", "dir", "dir/b.bin", "dir/deep", "dir/deep/c.csv"]);
    let long = text(&ground, &["fs", "ls", "-l", "-h", "/dir"])?;
    assert!(long.lines().next().is_some_and(|line| line.starts_with("-rw") && line.ends_with(" b.bin")), "{long}");
    assert!(long.contains("3.00 MiB"), "{long}");

    let listed = json(&ground, &["fs", "ls", "/"])?;
    assert_eq!((&listed[0]["path"], &listed[0]["type"]), (&"/a.txt".into(), &"file".into()));
    assert_eq!(listed[0], json(&ground, &["fs", "stat", "/a.txt"])?[0]);
    assert_eq!(text(&ground, &["fs", "find", "/", "--name", "*.csv"])?, "/dir/deep/c.csv\n");
    assert_eq!(text(&ground, &["fs", "find", "/", "--size", "+1M"])?, "/dir/b.bin\n");
    assert_eq!(text(&ground, &["fs", "find", "/", "--type", "f", "--newer", "1h"])?.lines().count(), 3);
    assert_eq!(text(&ground, &["fs", "find", "/", "--type", "f", "--older", "1h"])?, "");
    assert_eq!(text(&ground, &["fs", "find", "/dir/deep", "-0"])?, "/dir/deep\0/dir/deep/c.csv\0");
    let sums = json(&ground, &["fs", "du", "-s", "/dir"])?;
    assert_eq!(sums, [serde_json::json!({"path": "/dir", "bytes": (3 << 20) + 4, "files": 2, "directories": 1})]);
    let tree = text(&ground, &["fs", "tree", "/"])?;
    assert_eq!(
        tree,
        "/\n├── a.txt\n└── dir\n    ├── b.bin\n    └── deep\n        └── c.csv\n\n2 directories, 3 files\n"
    );
    assert_eq!(text(&ground, &["fs", "tree", "-L", "1", "/"])?.lines().count(), 5);
    Ok(())
}

#[test]
fn files_are_read_whole_and_in_parts() -> Result<()> {
    let ground = pond()?;
    for (arguments, expected) in [
        (&["cat", "/a.txt", "/dir/deep/c.csv"][..], "one\ntwo\nthree\nx,y\n"),
        (&["cat", "--offset", "4", "--length", "3", "/a.txt"], "two"),
        (&["cat", "--range", "8-", "/a.txt"], "three\n"),
        (&["cat", "--offset", "1GiB", "/a.txt"], ""),
        (&["head", "-n", "1", "/a.txt"], "one\n"),
        (&["head", "-c", "5", "/a.txt"], "one\nt"),
        (&["tail", "-n", "2", "/a.txt"], "two\nthree\n"),
        (&["tail", "-c", "3", "/a.txt"], "ee\n"),
        (&["head", "-n", "1", "/a.txt", "/dir/deep/c.csv"], "==> /a.txt <==\none\n\n==> /dir/deep/c.csv <==\nx,y\n"),
    ] {
        let arguments = [&["fs"], arguments].concat();
        assert_eq!(text(&ground, &arguments)?, expected, "{arguments:?}");
    }
    let digest = hex::encode(sha2::Sha256::digest("one\ntwo\nthree\n"));
    assert_eq!(text(&ground, &["fs", "checksum", "/a.txt"])?, format!("{digest}  /a.txt\n"));
    let sum = &json(&ground, &["fs", "checksum", "--algorithm", "crc32c", "/dir/b.bin"])?[0];
    let expected = format!("{:08x}", crc32c::crc32c(&vec![7; 3 << 20]));
    assert_eq!((&sum["checksum"], &sum["bytes"]), (&expected.into(), &(3 << 20).into()));
    Ok(())
}

#[test]
fn bytes_are_printed_as_json_too() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/text", "häh\nmal\n")?;
    ground.write("data/bytes", [0xff, 0xfe])?;
    let data = ground.path("data").display().to_string();
    ground.up(&[&data, "--no-mount"])?;
    let piece = |offset: u64, bytes: u64, text: &str| {
        [serde_json::json!({"path": "/text", "offset": offset, "bytes": bytes, "text": text})]
    };
    assert_eq!(json(&ground, &["fs", "cat", "/text"])?, piece(0, 9, "häh\nmal\n"));
    assert_eq!(json(&ground, &["fs", "head", "-n", "1", "/text"])?, piece(0, 5, "häh\n"));
    assert_eq!(json(&ground, &["fs", "tail", "-n", "1", "/text"])?, piece(5, 4, "mal\n"));
    assert_eq!(json(&ground, &["fs", "cat", "--range", "2-2", "/text"])?[0]["hex"], "a4");
    assert_eq!(json(&ground, &["fs", "cat", "/bytes", "/text"])?[0]["hex"], "fffe");
    assert_eq!(json(&ground, &["fs", "head", "/bytes", "/text"])?.len(), 2, "no titles");
    Ok(())
}

#[test]
fn files_are_loaded_located_and_freed() -> Result<()> {
    let ground = pond()?;
    let loaded = json(&ground, &["fs", "load", "-r", "/"])?;
    let bytes = (3 << 20) + 18;
    assert_eq!(loaded, [serde_json::json!({"path": "/", "files": 3, "bytes": bytes, "failed": 0})]);
    let location = &json(&ground, &["fs", "location", "/dir/b.bin"])?[0];
    assert_eq!(location["workers"][0]["cached_bytes"], 3 << 20);
    assert_eq!(location["blocks"][0]["owner"], location["workers"][0]["worker"]);
    eventually("a heartbeat tells the master of three contents", || {
        Ok(json(&ground, &["admin", "workers"])?[0]["contents"] == 3)
    })?;

    let freed = &json(&ground, &["fs", "free", "/dir/b.bin"])?[0];
    assert_eq!((&freed["contents"], &freed["bytes"]), (&1.into(), &(3 << 20).into()));
    assert_eq!(json(&ground, &["fs", "location", "/dir/b.bin"])?[0]["workers"][0]["cached_bytes"], 0);
    let status = &json(&ground, &["admin", "status"])?[0];
    assert_eq!((&status["mounts"], &status["workers"]), (&1.into(), &1.into()));
    assert!(text(&ground, &["admin", "status"])?.contains("1 mounts, 1 workers"));
    Ok(())
}

#[test]
fn long_work_shows_its_progress_on_a_terminal_and_nowhere_else() -> Result<()> {
    let ground = pond()?;
    for command in [&["fs", "load", "-r", "/"][..], &["fs", "checksum", "/dir/b.bin"]] {
        let quiet = ground.run(command)?;
        assert!(quiet.status.success() && quiet.stderr.is_empty(), "{command:?}: {}", stderr(&quiet));
        // script(1) gives it a terminal.
        let line = format!("{} {}", env!("CARGO_BIN_EXE_headpond"), command.join(" "));
        let mut terminal = std::process::Command::new("script");
        terminal.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("HEADPOND_MASTER", ground.master());
        let shown = terminal.output()?;
        assert!(shown.status.success() && stdout(&shown).contains("/3.00 MiB  "), "{command:?}: {}", stdout(&shown));
    }
    Ok(())
}

#[test]
fn a_path_that_fails_is_named_and_the_others_go_on() -> Result<()> {
    let ground = pond()?;
    let output = ground.run(&["fs", "cat", "/nowhere", "/a.txt"])?;
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(3), "one\ntwo\nthree\n"));
    assert_eq!(stderr(&output), "headpond: /nowhere does not exist\n");
    let output = ground.run(&["fs", "stat", "-o", "json", "/nowhere", "/a.txt"])?;
    assert_eq!(stderr(&output), "{\"error\":\"/nowhere does not exist\",\"code\":3}\n");
    assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(3), 1));
    let output = ground.run(&["fs", "cat", "/nowhere", "/dir"])?;
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(1), 2), "{}", stderr(&output));
    assert_eq!(ground.run(&["fs", "cat", "/dir"])?.status.code(), Some(6));
    assert_eq!(ground.run(&["fs", "load", "/dir"])?.status.code(), Some(6));
    Ok(())
}

#[test]
fn names_that_are_no_text_are_shown_escaped_and_exact_in_json() -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut ground = Ground::new()?;
    ground.write("data/ok", "")?;
    std::fs::write(ground.path("data").join(std::ffi::OsStr::from_bytes(b"a\xff\nb")), "strange")?;
    let data = ground.path("data").display().to_string();
    ground.up(&[&data, "--no-mount"])?;
    assert_eq!(text(&ground, &["fs", "ls", "/"])?, "a\\xff\\nb\nok\n");
    assert_eq!(json(&ground, &["fs", "ls", "/"])?[0]["path_hex"], "2f61ff0a62");
    Ok(())
}

#[test]
fn a_reader_that_goes_away_is_no_error() -> Result<()> {
    use std::{io::Read as _, process::Stdio};
    let ground = pond()?;
    let mut child =
        ground.command(&["fs", "cat", "/dir/b.bin"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut first = [0; 1];
    child.stdout.take().context("piped")?.read_exact(&mut first)?;
    let output = child.wait_with_output()?;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", stderr(&output));
    Ok(())
}

#[test]
fn files_are_put_moved_and_removed_in_the_store_too() -> Result<()> {
    let ground = pond()?;
    ground.write("local.bin", vec![9; 2 << 20])?;
    let local = ground.path("local.bin").display().to_string();
    assert_eq!(text(&ground, &["fs", "mkdir", "-p", "/new/dir"])?, "");
    assert_eq!(text(&ground, &["fs", "mkdir", "-p", "/new/dir"])?, "", "it is there already");
    assert_eq!(text(&ground, &["fs", "put", &local, "/new/dir/f"])?, "/new/dir/f: 2.00 MiB written\n");
    assert_eq!(std::fs::read(ground.path("data/new/dir/f"))?, vec![9; 2 << 20]);
    let status = json(&ground, &["fs", "status", "/new/dir/f"])?;
    assert_eq!((&status[0]["persisted"], &status[0]["cached"]), (&true.into(), &(2 << 20).into()), "{status:?}");

    assert_eq!(text(&ground, &["fs", "mv", "/new/dir", "/moved"])?, "");
    assert_eq!(text(&ground, &["fs", "ls", "-R", "/moved"])?, "f\n");
    assert_eq!(text(&ground, &["fs", "sync", "--timeout", "30s", "/"])?, "");
    assert_eq!(std::fs::read(ground.path("data/moved/f"))?, vec![9; 2 << 20]);
    assert!(!ground.path("data/new/dir").exists());
    assert_eq!(text(&ground, &["fs", "mv", "/moved/f", "/dir"])?, "", "into a directory");
    assert_eq!(text(&ground, &["fs", "sync", "/"])?, "");
    assert!(ground.path("data/dir/f").exists());

    assert_eq!(text(&ground, &["fs", "rm", "-r", "/dir", "/a.txt"])?, "");
    assert_eq!(text(&ground, &["fs", "rm", "-f", "/a.txt"])?, "");
    // What was below a directory is deleted in the background.
    text(&ground, &["fs", "sync", "/"])?;
    assert!(!ground.path("data/dir").exists() && !ground.path("data/a.txt").exists());
    assert_eq!(text(&ground, &["fs", "ls", "/"])?, "moved\nnew\n");
    Ok(())
}

#[test]
fn changes_that_cannot_be_made_say_why() -> Result<()> {
    let ground = pond()?;
    ground.write("local.bin", "x")?;
    let local = ground.path("local.bin").display().to_string();
    for (arguments, code, said) in [
        (&["put", &local, "/a.txt", "--no-replace"][..], 4, "a.txt"),
        (&["put", "missing.bin", "/b"], 3, "cannot read missing.bin"),
        (&["put", &local, "/nowhere/b"], 3, "/nowhere does not exist"),
        (&["put", &local, "/dir"], 6, "dir"),
        (&["mkdir", "/dir"], 4, "dir"),
        (&["mkdir", "-p", "/a.txt/b"], 6, "/a.txt is not a directory"),
        (&["mv", "--no-replace", "/dir/b.bin", "/a.txt"], 4, "a.txt"),
        (&["mv", "/missing", "/b"], 3, "missing"),
        (&["mv", "/dir", "/dir/deep"], 2, "dir"),
        (&["rm", "/dir"], 6, "--recursive"),
        (&["rm", "/missing"], 3, "/missing does not exist"),
        (&["rm", "/"], 2, "/"),
        (&["sync", "/missing"], 3, "/missing does not exist"),
    ] {
        let arguments = [&["fs"], arguments].concat();
        let output = ground.run(&arguments)?;
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(said) && told.lines().count() == 1, "{arguments:?}: {told}");
    }
    assert_eq!(std::fs::read(ground.path("data/a.txt"))?, b"one\ntwo\nthree\n");
    Ok(())
}
