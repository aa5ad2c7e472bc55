//! Many files open at once, and few descriptors allowed.

use std::{fs::File, io::Read as _, process::Command};

use anyhow::{Context as _, Result};
use headpond_tests::Process;

use crate::ground::Ground;

/// Files that are open at once; several times what the process may open.
const FILES: usize = 600;

/// `ulimit -n` of the process.
const LIMIT: usize = 128;

#[test]
fn more_open_files_than_descriptors_are_read_all_the_same() -> Result<()> {
    let mut ground = Ground::new()?;
    for n in 0..FILES {
        ground.write(&format!("data/{n}"), n.to_string())?;
    }
    let (lake, pond) = (ground.path("data").display().to_string(), ground.path("pond").display().to_string());
    let up = ground.up_command(&[&lake, &pond]);
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {LIMIT}; exec \"$@\"")).arg("sh");
    if headpond_tests::is_root() {
        // Whoever has the capability raises the limit again.
        limited.args(["setpriv", "--bounding-set", "-sys_resource"]);
    }
    limited.arg(up.get_program());
    limited.args(up.get_args()).current_dir(up.get_current_dir().context("set")?);
    let process = Process::start("headpond up", limited, &ground.path("headpond.log"))?;
    headpond_tests::wait_ready(ground.process.insert(process), ground.http_port, "/readyz")?;

    for round in 0..2 {
        let mut open = Vec::new();
        for n in 0..FILES {
            let file = File::open(ground.path(&format!("pond/{n}")));
            open.push(file.with_context(|| format!("open of file {n} in round {round}"))?);
        }
        for (n, file) in open.iter_mut().enumerate() {
            let mut text = String::new();
            file.read_to_string(&mut text).with_context(|| format!("read of file {n} in round {round}"))?;
            assert_eq!(text, n.to_string());
        }
    }
    let log = ground.process.as_ref().context("runs")?.output();
    assert!(!log.contains("Too many open files") && !log.contains("socket of this node's worker broke"), "{log}");
    ground.process.as_mut().context("runs")?.interrupt()?;
    Ok(())
}
