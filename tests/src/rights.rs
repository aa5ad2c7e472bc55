//! What the user who runs the tests may do, and which tests that leaves.

use std::{fs::OpenOptions, io::Write as _};

/// Where the closing summary of `make test` is collected, a line per statement.
const SUMMARY: &str = "HEADPOND_TEST_SUMMARY";

/// Whether root runs the tests.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a process of this user can abort a FUSE connection of his, so that a guard can watch over a mount.
#[must_use]
pub fn can_guard() -> bool {
    // The connections' file system has no entries while no FUSE file system is mounted, but a device of its own.
    is_root() || std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|table| table.contains(" - fusectl "))
}

/// States in which of its ways a test is run: on stderr past the capture of the test harness, and for the closing summary.
pub fn run_as(what: &str, how: &str) {
    let line = format!("{what}: run as {how}\n");
    let _unseen = std::io::stderr().write_all(line.as_bytes());
    if let Some(summary) = std::env::var_os(SUMMARY) {
        let file = OpenOptions::new().append(true).create(true).open(summary);
        let _unwritten = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}
