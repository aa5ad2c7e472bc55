//! Machines and users that cannot mount: `headpond up` says what is missing and does everything else.
//!
//! Each case is made in a mount namespace of its own; for an ordinary user in a user namespace besides.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use headpond_tests::{Process, wait_ready};

use crate::ground::{Ground, stderr, stdout};

/// A `/dev` with all that programs need except the FUSE device.
const WITHOUT_DEVICE: &str = "mkdir dev && mount -t tmpfs dev dev && for name in null zero random urandom; do \
    touch dev/$name && mount --bind /dev/$name dev/$name; done && mount --rbind dev /dev";

/// Something else in the device's place.
const ANOTHER_DEVICE: &str = "mount --bind /dev/null /dev/fuse";

/// A device that nobody may open, as a container's device rules have it.
const CLOSED_DEVICE: &str = "mount --bind /dev/fuse /dev/fuse && mount -o remount,bind,nodev /dev/fuse";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Starts `headpond up` after `script`, which must succeed, and checks that all but the mount works.
fn serves_without_mount(script: &str, prefix: &[&str], says: &[&str]) -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    let up = ground.up_command(&["data"]);
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", &format!("{script} && exec \"$@\""), "sh"]).args(prefix);
    command.arg(up.get_program()).args(up.get_args()).current_dir(ground.path(""));
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let process = Process::start("headpond up", command, &ground.path("headpond.log"))?;
    wait_ready(ground.process.insert(process), ground.http_port, "/readyz").with_context(|| script.to_owned())?;
    headpond_tests::eventually("it says what runs", || {
        Ok(std::fs::read_to_string(ground.path("headpond.log"))?.contains("Ctrl-C ends."))
    })?;
    let said = std::fs::read_to_string(ground.path("headpond.log"))?;
    for text in says.iter().chain(&["Nothing is mounted: ", "Everything else works"]) {
        ensure!(said.contains(text), "{script:?}: it does not say {text:?} but: {said}");
    }
    let read = ground.run(&["fs", "cat", "/a"])?;
    ensure!(stdout(&read) == "one", "{script:?}: {}", stderr(&read));
    ensure!(!ground.path("pond").exists(), "{script:?}: an unused mount point is left");
    Ok(())
}

#[test]
fn without_the_device() -> Result<()> {
    serves_without_mount(WITHOUT_DEVICE, &[], &["/dev/fuse is missing", "modprobe fuse"])
}

#[test]
fn with_something_else_in_its_place() -> Result<()> {
    serves_without_mount(ANOTHER_DEVICE, &[], &["/dev/fuse is not the FUSE device", "--device /dev/fuse"])
}

#[test]
fn with_a_device_that_cannot_be_opened() -> Result<()> {
    serves_without_mount(CLOSED_DEVICE, &[], &["/dev/fuse cannot be opened", "--device /dev/fuse"])
}

#[test]
fn without_the_right_to_mount() -> Result<()> {
    let powerless = ["setpriv", "--bounding-set", "-sys_admin"];
    serves_without_mount("true", &powerless, &["fusermount3 cannot mount at", "--cap-add SYS_ADMIN"])
}

#[test]
fn without_the_right_to_mount_and_without_the_helper() -> Result<()> {
    let powerless = ["setpriv", "--bounding-set", "-sys_admin", "env", "PATH=/nowhere"];
    serves_without_mount("true", &powerless, &["mounting is not allowed", "--cap-add SYS_ADMIN"])
}
