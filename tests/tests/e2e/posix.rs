//! Suites of others on a mount: pjdfstest for what calls answer, fsx for the bytes of one file.

use std::{
    collections::BTreeSet,
    fs::Permissions,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Command, Pond, can_passthrough, is_root, run_as, tool};

use crate::lake::Lake;

/// Groups of pjdfstest that a mount is to pass now.
const GROUPS: [&str; 15] = [
    "chmod",
    "chown",
    "ftruncate",
    "link",
    "mkdir",
    "mkfifo",
    "mknod",
    "open",
    "posix_fallocate",
    "rename",
    "rmdir",
    "symlink",
    "truncate",
    "unlink",
    "utimensat",
];

/// Tests of these groups that fail, with the reason. One that passes all the same is an error, so that the list stays true.
const EXPECTED: &[(&str, &[&str])] = &[
    (
        "a path of 4095 bytes is no key of a store, where 1024 are allowed",
        &[
            "chmod::enametoolong_path",
            "chown::enametoolong_path",
            "chown::lchown::enametoolong_path",
            "link::enametoolong_path",
            "symlink::enametoolong_path",
            "mkdir::enametoolong_path",
            "mkfifo::enametoolong_path",
            "mknod::enametoolong_path",
            "mknod::privileged::enametoolong_path",
            "open::enametoolong_path",
            "rename::enametoolong_path",
            "rmdir::enametoolong_path",
            "truncate::enametoolong_path",
            "unlink::enametoolong_path",
        ],
    ),
    ("a directory does not count those below it as links", &["rename::updates_link_parent"]),
];

/// Tests of these groups that are not run, with the reason. One that is run all the same is an error, too.
const SKIPPED: &[(&str, &[&str])] = &[(
    "the system tells of no limit for the number of links to a file of a FUSE file system",
    &["link::link_count_max"],
)];

/// In the names of the tests that have the file system be read-only for a while, which only root can.
const REMOUNTING: &str = "::erofs_";

/// What a file system may have or lack, and a mount has.
const FEATURES: [&str; 4] = ["posix_fallocate", "rename_ctime", "utime_now", "utimensat"];

/// Seconds between two changes whose times must differ: the clock of times that are given by the kernel ticks 100 to 1000 times a second.
const NAP: &str = "0.02";

fn pond(lake: &Lake, durability: &str) -> Result<Pond> {
    let pond = lake.pond().arg("--sync-interval").arg("1s").arg("--durability").arg(durability);
    // Some tests become another user.
    if is_root() { pond.arg("-o").arg("allow_other").start() } else { pond.start() }
}

/// The users whom tests become: three that every system has, with their own groups.
fn users() -> Result<Vec<(String, String)>> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let groups = std::fs::read_to_string("/etc/group")?;
    let group_of = |id: &str| {
        groups.lines().find(|line| line.split(':').nth(2) == Some(id)).and_then(|line| line.split(':').next())
    };
    let mut users = Vec::new();
    for name in ["nobody", "daemon", "bin"] {
        let user = passwd.lines().find(|line| line.split(':').next() == Some(name));
        let group = user.and_then(|line| line.split(':').nth(3)).and_then(group_of);
        users.push((
            name.to_owned(),
            group.with_context(|| format!("no user {name}, or his group is not known"))?.to_owned(),
        ));
    }
    Ok(users)
}

/// What pjdfstest is told; `other` is a directory of another file system.
fn configuration(other: &Path, remounts: bool) -> Result<String> {
    let features: String = FEATURES.iter().map(|feature| format!("{feature} = {{}}\n")).collect();
    let expected: Vec<_> = EXPECTED.iter().flat_map(|(_, tests)| *tests).collect();
    let users: Vec<_> = users()?.into_iter().map(|(user, group)| [user, group]).collect();
    Ok(format!(
        "\
[features]
secondary_fs = {other:?}
{features}
[settings]
naptime = {NAP}
allow_remount = {remounts}
expected_failures = {expected:?}
[dummy_auth]
entries = {users:?}
"
    ))
}

/// A folder with a `mount` that asks the kernel itself: the helper for FUSE cannot remount.
fn plain_mount(scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join("bin");
    std::fs::create_dir_all(&folder)?;
    let mount = folder.join("mount");
    std::fs::write(&mount, "#!/bin/sh\nexec /bin/mount --internal-only \"$@\"\n")?;
    std::fs::set_permissions(&mount, Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// What a run of pjdfstest said.
#[derive(Default)]
struct Said {
    passed: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

impl Said {
    /// Runs the tests in `folder` whose names contain one of `names`.
    fn by(folder: &Path, scratch: &Path, remounts: bool, names: &[String]) -> Result<Self> {
        let file = scratch.join("pjdfstest.toml");
        std::fs::write(&file, configuration(scratch, remounts)?)?;
        let mut command = Command::new(tool("pjdfstest")?);
        let path = format!("{}:{}", plain_mount(scratch)?.display(), std::env::var("PATH")?);
        command.arg("-c").arg(&file).arg("-p").arg(folder).args(names).env("PATH", path);
        let output = command.env("RUST_BACKTRACE", "0").env("NO_COLOR", "1").output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_wrong = |line: &&str| line.ends_with(" FAILED") || line.ends_with(" PASSED UNEXPECTEDLY");
        let wrong: Vec<_> = said.lines().filter(is_wrong).collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(wrong.is_empty(), "pjdfstest:\n{}\nin\n{said}{errors}", wrong.join("\n"));
        ensure!(said.contains("Summary"), "pjdfstest ended with {}:\n{said}{errors}", output.status);
        let mut found = Self::default();
        let is_for_root = |reason: &&str| *reason == "requires root privileges" || reason.contains("CAP_SYS_ADMIN");
        // Why a test was skipped stands in the lines below it.
        let mut lines = said.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((name, end)) = line.trim_end().rsplit_once(' ') else { continue };
            let name = name.trim_end().to_owned();
            let mut reasons = Vec::new();
            while let Some(reason) = lines.next_if(|line| line.starts_with('\t')) {
                reasons.push(reason.trim());
            }
            match end {
                "ok" => drop(found.passed.insert(name)),
                "skipped" if !is_root() && reasons.iter().any(is_for_root) => {}
                "skipped" => drop(found.skipped.insert(name)),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Runs pjdfstest in `folder`. What it does not run is what is listed.
fn pjdfstest(folder: &Path, scratch: &Path) -> Result<BTreeSet<String>> {
    let groups = GROUPS.map(|group| format!("{group}::"));
    let Said { mut passed, mut skipped } = Said::by(folder, scratch, false, &groups)?;
    if is_root() {
        // In a process of their own: some of the others leave files open, and what is written cannot become read-only.
        let alone = Said::by(folder, scratch, true, &[REMOUNTING.to_owned()])?;
        passed.extend(alone.passed);
    } else {
        skipped.retain(|name| !name.contains(REMOUNTING));
    }
    let skipped: BTreeSet<_> = skipped.difference(&passed).map(String::as_str).collect();
    let expected: BTreeSet<_> = SKIPPED.iter().flat_map(|(_, tests)| *tests).copied().collect();
    ensure!(skipped == expected, "pjdfstest skips {skipped:?}");
    Ok(passed)
}

fn pjdfstest_on(durability: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let pond = pond(&lake, durability)?;
    let scratch = tempfile::tempdir()?;
    let passed = pjdfstest(&pond.path(""), scratch.path())?.len();
    let least = if is_root() { 370 } else { 60 };
    run_as(
        "pjdfstest",
        if is_root() { "root: all tests of its groups" } else { "an ordinary user: those that need no other user" },
    );
    ensure!(passed >= least, "only {passed} tests were run");
    pond.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
    lake.must_become(&std::collections::BTreeMap::new())
}

/// What users are told is what is tested.
#[test]
fn what_pjdfstest_may_miss_is_documented() -> Result<()> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/semantics.md"))?;
    let tables = [
        ("| why a test of pjdfstest fails | tests |", EXPECTED),
        ("| why a test of pjdfstest is not run | tests |", SKIPPED),
    ];
    for (title, reasons) in tables {
        for (reason, tests) in reasons {
            let row = format!("| {reason} | {} |", tests.len());
            ensure!(page.contains(&row), "docs/semantics.md lacks the row\n{row}");
        }
        let listed = page.lines().skip_while(|line| *line != title);
        let rows = listed.skip(2).take_while(|line| line.starts_with('|')).count();
        ensure!(rows == reasons.len(), "docs/semantics.md has {rows} reasons below {title:?}");
    }
    Ok(())
}

#[test]
fn pjdfstest_passes() -> Result<()> {
    pjdfstest_on("through")
}

#[test]
fn pjdfstest_passes_where_files_are_persisted_later() -> Result<()> {
    pjdfstest_on("async")
}

/// What fsx does how often, with mapped memory or without. It compares what it reads with what it wrote.
fn weights(mapped: u32) -> String {
    format!(
        "\
flen = 400000
[opsize]
max = 60000
[weights]
close_open = 1
invalidate = 1
read = 10
write = 10
mapread = {mapped}
mapwrite = {mapped}
truncate = 5
fsync = 1
fdatasync = 1
sendfile = 1
posix_fadvise = 1
posix_fallocate = 1
punch_hole = 1
copy_file_range = 2
"
    )
}

/// Operations of fsx in each of its ways.
const OPERATIONS: u64 = 10_000;

fn fsx(file: &Path, scratch: &Path, mapped: u32, seed: u64, operations: u64) -> Result<()> {
    let name = file.file_name().context("fsx needs a file")?.to_string_lossy().into_owned();
    let settings = scratch.join(format!("{name}.toml"));
    std::fs::write(&settings, weights(mapped))?;
    let mut command = Command::new(tool("fsx")?);
    command.arg("-f").arg(settings).arg("-P").arg(scratch).args([
        "-S",
        &seed.to_string(),
        "-N",
        &operations.to_string(),
    ]);
    let output = command.arg(file).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "fsx -S {seed} on {name} ended with {}:\n{said}", output.status);
    Ok(())
}

/// Does the same on the mount and on a plain file; both end with the same bytes, which are given.
fn fsx_on_both(pond: &Pond, scratch: &Path, name: &str, mapped: u32, seed: u64, operations: u64) -> Result<Vec<u8>> {
    fsx(&pond.path(name), scratch, mapped, seed, operations)?;
    fsx(&scratch.join(name), scratch, mapped, seed, operations)?;
    let expected = std::fs::read(scratch.join(name))?;
    ensure!(std::fs::read(pond.path(name))? == expected, "{name} differs from the plain file");
    Ok(expected)
}

/// Rounds after each of which the kernel reads the file by itself.
fn fsx_between_passed_reads(pond: &Pond, scratch: &Path, seed: u64) -> Result<Vec<u8>> {
    const ROUNDS: u64 = 20;
    let passed = || headpond_tests::metric(pond.http_port(), "headpond_fuse_opens_total", "passthrough");
    let before = passed()?;
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        expected = fsx_on_both(pond, scratch, "passed", 2, seed + round, OPERATIONS / ROUNDS)?;
        let file = std::fs::File::open(pond.path("passed"))?;
        for (at, block) in expected.chunks(4096).enumerate() {
            let mut read = vec![0; block.len()];
            file.read_exact_at(&mut read, 4096 * at as u64)?;
            ensure!(read == block, "round {round}: page {at} differs from the plain file");
        }
    }
    let passed = passed()? - before;
    ensure!(!can_passthrough() || passed >= ROUNDS as f64, "only {passed} opens were passed through");
    Ok(expected)
}

fn fsx_on(durability: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let pond = pond(&lake, durability)?;
    let scratch = tempfile::tempdir()?;
    let (pond, scratch) = (&pond, scratch.path());
    std::thread::scope(|scope| {
        let ways = [
            ("buffered", scope.spawn(move || fsx_on_both(pond, scratch, "buffered", 0, 1, OPERATIONS))),
            ("mapped", scope.spawn(move || fsx_on_both(pond, scratch, "mapped", 5, 2, OPERATIONS))),
            ("passed", scope.spawn(move || fsx_between_passed_reads(pond, scratch, 3))),
        ];
        let ended = ways.map(|(name, way)| (name, way.join().expect("they return errors")));
        pond.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
        for (name, expected) in ended {
            let expected = expected.with_context(|| format!("fsx, {name}, {durability}"))?;
            ensure!(lake.get(name)? == expected, "the object {name} differs from the plain file");
        }
        ensure!(lake.list()?.len() == 3, "{:?}", lake.list()?);
        lake.must_have_no_uploads()
    })
}

#[test]
fn fsx_finds_its_bytes() -> Result<()> {
    fsx_on("through")
}

#[test]
fn fsx_finds_its_bytes_where_files_are_persisted_later() -> Result<()> {
    fsx_on("async")
}
