//! Mounting, unmounting, and what a killed process leaves.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::atomic::Ordering,
};

use headpond_types::InodeId;

use super::*;

#[test]
fn an_unused_mount_ends_cleanly_and_a_used_one_is_detached() {
    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"still here");
    let mut pond = Pond::mount(&source);
    let path = fs::canonicalize(pond.path("")).expect("a real name");
    let running = pond.running.take().expect("it runs");
    assert_eq!(running.mountpoint(), path);
    let let_go = || source.asked().let_go.load(Ordering::SeqCst);
    assert_eq!(let_go(), 0);
    assert_eq!(pond.block_on(running.unmount(Duration::ZERO)).expect("unmounted"), Detached::Clean);
    assert!(!is_mounted(&path));
    assert_eq!(let_go(), 1, "nothing is believed any more");
    drop(pond);

    let mut pond = Pond::mount(&source);
    let path = fs::canonicalize(pond.path("")).expect("a real name");
    let mut file = File::open(pond.path("f")).expect("it opens");
    let running = pond.running.take().expect("it runs");
    assert_eq!(pond.block_on(running.unmount(Duration::ZERO)).expect("unmounted"), Detached::Busy);
    assert!(!is_mounted(&path));
    assert_eq!(std::io::read_to_string(&mut file).expect("its user goes on"), "still here");
    assert_eq!(let_go(), 1, "as does its kernel");
}

#[test]
fn the_mount_ends_with_its_tasks() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let path = fs::canonicalize(pond.path("")).expect("a real name");
    assert!(pond.block_on(pond.tasks.drain(Duration::from_secs(10))));
    assert!(!is_mounted(&path));
    pond.block_on(pond.running().ended());
}

#[test]
fn a_mount_whose_runtime_is_gone_fails_and_can_be_unmounted() {
    let source = FakePond::new();
    source.set_warm(false);
    let mut pond = Pond::mount(&source);
    let path = fs::canonicalize(pond.path("")).expect("a real name");
    pond.runtime.take().expect("it runs").shutdown_timeout(Duration::from_secs(10));
    assert_eq!(errno(fs::metadata(path.join("f"))), Some(libc::EIO));
    drop(pond.running.take());
    assert!(!is_mounted(&path));
}

#[test]
fn a_mount_that_somebody_else_ends_is_noticed_and_what_lies_there_next_is_left_alone() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let path = fs::canonicalize(pond.path("")).expect("a real name");
    pond.running().attachment.detach().expect("detachable");
    pond.block_on(pond.running().ended());
    let config = FuseConfig::new(&path);
    let next = pond.block_on(start(config, source, Tasks::new(Shutdown::new()))).expect("mountable again");
    drop(pond);
    assert!(is_mounted(&path), "the next mount is not the first one's to end");
    drop(next);
    assert!(!is_mounted(&path));
}

#[test]
fn a_live_mount_is_not_mounted_over() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let config = FuseConfig { nonempty: true, ..FuseConfig::new(pond.path("")) };
    let refused = pond.block_on(start(config, source, pond.tasks.clone())).expect_err("must be refused");
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn the_kernel_reads_far_ahead_where_this_user_may_say_so() {
    let pond = Pond::mount(&FakePond::new());
    let table = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let path = fs::canonicalize(pond.path("")).expect("a real name");
    let mounted = |line: &&str| line.split(' ').nth(4) == path.to_str();
    let device = table.lines().find(mounted).and_then(|line| line.split(' ').nth(2)).expect("it is mounted");
    let setting = fs::read_to_string(format!("/sys/class/bdi/{device}/read_ahead_kb")).expect("a setting");
    assert_eq!(setting.trim(), if is_root() { "4096" } else { "128" });
}

/// Where the process to be killed mounts; set only for that process.
const VICTIM: &str = "HEADPOND_FUSE_TEST_VICTIM";

#[test]
fn a_dead_mount_is_recognised_and_replaced() {
    if let Some(path) = std::env::var_os(VICTIM) {
        let runtime = Runtime::new().expect("a runtime");
        let tasks = Tasks::new(Shutdown::new());
        let running = runtime.block_on(start(FuseConfig::new(path), FakePond::new(), tasks)).expect("mountable");
        println!("{VICTIM} is mounted");
        runtime.block_on(running.ended());
        return;
    }
    let _turn = Turn::alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "running::tests::lifecycle::a_dead_mount_is_recognised_and_replaced", "--nocapture"])
        .env(VICTIM, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test starts again");
    let said = BufReader::new(victim.stdout.take().expect("it is piped")).lines();
    let mounted = said.map_while(Result::ok).any(|line| line.contains("is mounted"));
    victim.kill().expect("SIGKILL");
    victim.wait().expect("it ends");
    assert!(mounted);
    assert!(is_mounted(&fs::canonicalize(dir.path()).expect("a real name")));
    assert_eq!(errno(fs::metadata(dir.path())), Some(libc::ENOTCONN));

    let source = FakePond::new();
    source.file(InodeId::ROOT, "f", b"alive");
    let runtime = Runtime::new().expect("a runtime");
    let tasks = Tasks::new(Shutdown::new());
    let running = runtime.block_on(start(FuseConfig::new(dir.path()), source, tasks)).expect("mountable again");
    assert_eq!(fs::read(dir.path().join("f")).expect("readable"), b"alive");
    drop(running);
    assert!(!is_mounted(&fs::canonicalize(dir.path()).expect("a real name")));
}
