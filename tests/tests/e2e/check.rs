//! `admin check` finds what is wrong, and nothing else.

use std::{
    collections::BTreeSet,
    fs,
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Behaviour, Cluster, Pond, eventually, eventually_within, noise, write_and_close};
use serde_json::Value;

use crate::{lake::Lake, write_kills::Writing};

/// Exit code of a check that found something.
const FOUND: i32 = 19;

/// What a check says.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Kinds and paths.
    pub(crate) findings: BTreeSet<(String, String)>,
    /// The sums.
    pub(crate) sums: Value,
    /// All that was printed.
    pub(crate) said: String,
}

impl Checked {
    fn sum(&self, name: &str) -> Result<u64> {
        self.sums[name].as_u64().with_context(|| format!("no {name} in {}", self.said))
    }
}

/// Whose namespace is checked.
pub(crate) trait Checks {
    /// Runs a command against it.
    fn run(&self, arguments: &[&str]) -> Result<Output>;
}

impl Checks for Cluster {
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run(arguments)
    }
}

impl Checks for Pond {
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.run(arguments)
    }
}

/// Checks what lies below `path`.
pub(crate) fn check(whose: &impl Checks, path: &str) -> Result<Checked> {
    let output = whose.run(&["admin", "check", path, "-o", "json"])?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut lines = lines.map(serde_json::from_slice).collect::<Result<Vec<Value>, _>>().context(said.clone())?;
    let sums = lines.pop().with_context(|| format!("it says nothing: {said}"))?;
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    let findings: BTreeSet<_> = lines.iter().map(|line| (text(line, "finding"), text(line, "path"))).collect();
    let code = output.status.code();
    ensure!(code == Some(if findings.is_empty() { 0 } else { FOUND }), "{code:?}: {said}");
    ensure!(sums["findings"] == findings.len(), "{said}");
    Ok(Checked { findings, sums, said })
}

/// Fails unless a check of everything finds nothing and nothing is left in work, soon.
pub(crate) fn must_be_clean(whose: &impl Checks, limit: Duration) -> Result<()> {
    let mut last = String::new();
    let clean = eventually_within(limit, "a check finds nothing", || {
        let checked = check(whose, "/")?;
        last.clone_from(&checked.said);
        let mut busy = 0;
        for name in ["writing", "pending", "moving", "uploads_under_way"] {
            busy += checked.sum(name)?;
        }
        Ok(checked.findings.is_empty() && busy == 0)
    });
    clean.with_context(|| last)
}

fn found(findings: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    findings.iter().map(|(kind, path)| ((*kind).to_owned(), (*path).to_owned())).collect()
}

#[test]
fn what_differs_from_the_bucket_is_found() -> Result<()> {
    let bodies = (0..1200).map(|n| (format!("many/{n}"), "x")).chain(
        ["gone", "replaced", "kept", "d/gone", "d/x", "d-x/y", "unlisted/a"].map(|key| (key.to_owned(), "before")),
    );
    let lake = Lake::of(bodies)?;
    let cluster = lake.cluster().store(&["--sync-interval", "never"]).start()?;
    for dir in ["", "d", "d-x", "many"] {
        fs::read_dir(cluster.path(0, dir))?.count();
    }
    write_and_close(&cluster.path(0, "ours"), b"written")?;
    write_and_close(&cluster.path(0, "d/ours"), b"written")?;
    for dir in ["empty", "full", "bare"] {
        fs::create_dir(cluster.path(0, dir))?;
    }
    write_and_close(&cluster.path(0, "full/inside"), b"written")?;
    std::os::unix::fs::symlink("ours", cluster.path(0, "link"))?;
    let clean = check(&cluster, "/")?;
    ensure!(clean.findings.is_empty(), "{}", clean.said);
    ensure!((clean.sum("unlisted")?, clean.sum("hidden")?) == (1, 0), "{}", clean.said);
    ensure!(clean.sum("files")? == 1200 + 6 + 3 && clean.sum("objects")? == 1200 + 7 + 6, "{}", clean.said);

    lake.delete("gone")?;
    lake.delete("d/gone")?;
    lake.delete("ours")?;
    lake.delete("many/777")?;
    lake.delete("full/inside")?;
    lake.delete("empty/")?;
    lake.put("replaced", "after!")?;
    lake.put("d/ours", "longer than written")?;
    lake.put("d/stray", "nobody knows")?;
    lake.put("many/7770", "nobody knows")?;
    lake.put("unlisted/b", "not seen yet")?;
    lake.put("new/deep/er", "nobody knows")?;
    lake.put("left/", "")?;
    lake.put("link", "hidden")?;
    let foreign = lake.begin_upload("foreign")?;
    let checked = check(&cluster, "/")?;
    let all = [
        ("missing-object", "/gone"),
        ("missing-object", "/d/gone"),
        ("missing-object", "/ours"),
        ("missing-object", "/many/777"),
        ("missing-object", "/full/inside"),
        ("missing-marker", "/empty/"),
        ("other-object", "/replaced"),
        ("other-object", "/d/ours"),
        ("unknown-object", "/d/stray"),
        ("unknown-object", "/many/7770"),
        ("unknown-object", "/new/deep/er"),
        ("left-marker", "/left/"),
    ];
    ensure!(checked.findings == found(&all), "{}", checked.said);
    ensure!((checked.sum("unlisted")?, checked.sum("hidden")?) == (2, 1), "{}", checked.said);
    ensure!(checked.sum("uploads_of_others")? == 1, "{foreign}: {}", checked.said);
    let below = check(&cluster, "/d")?;
    let below_d: Vec<_> = all.into_iter().filter(|(_, path)| path.starts_with("/d/")).collect();
    ensure!(below.findings == found(&below_d), "{}", below.said);
    let one = check(&cluster, "/replaced")?;
    ensure!(one.findings == found(&[("other-object", "/replaced")]), "{}", one.said);
    let none = cluster.run(&["admin", "check", "/not-there"])?;
    ensure!(none.status.code() == Some(3), "{none:?}");
    // What the store has is seen, and then all is one again.
    let text = cluster.run(&["admin", "check", "/d-x"])?;
    ensure!(String::from_utf8_lossy(&text.stdout).contains("findings   0"), "{text:?}");
    Ok(())
}

#[test]
fn bytes_that_no_worker_holds_are_found() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().store(&["--durability", "async", "--copies", "1"]).workers(2).start()?;
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    for n in 0..5_u64 {
        write_and_close(&cluster.path(0, &format!("f{n}")), &noise(n, 100_000 * usize::try_from(n)?))?;
    }
    let open = fs::File::create(cluster.path(0, "open"))?;
    std::io::Write::write_all(&mut &open, b"synced")?;
    open.sync_all()?;
    std::io::Write::write_all(&mut &open, b" and not")?;
    let pending = check(&cluster, "/")?;
    ensure!(pending.findings.is_empty() && pending.sum("pending")? == 5, "{}", pending.said);
    ensure!(pending.sum("writing")? == 1, "{}", pending.said);
    cluster.workers[0].kill()?;
    cluster.wait_workers(1)?;
    let lost = check(&cluster, "/")?;
    let all = ["/f0", "/f1", "/f2", "/f3", "/f4", "/open"].map(|path| ("lost-content", path));
    ensure!(lost.findings == found(&all), "{}", lost.said);
    ensure!(lost.said.contains("is not live: start it again"), "{}", lost.said);
    cluster.workers[0].launch()?;
    cluster.wait_workers(2)?;
    ensure!(check(&cluster, "/")?.findings.is_empty(), "the worker is back");
    // A worker of the same name without the bytes.
    cluster.workers[0].kill()?;
    for entry in fs::read_dir(cluster.cache_dir(0))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    cluster.workers[0].launch()?;
    cluster.wait_workers(2)?;
    let lost = check(&cluster, "/")?;
    ensure!(lost.findings == found(&all), "{}", lost.said);
    drop(open);
    Ok(())
}

#[test]
fn an_upload_that_cannot_be_aborted_is_found() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().start()?;
    lake.proxy.behave(Behaviour { hang: true, only: "partNumber=2".to_owned(), ..Behaviour::default() });
    let writing = Writing::begin(&noise(1, 40 << 20), &cluster.path(0, "f"))?;
    eventually("parts are sent", || {
        Ok(lake.minio.uploads()? == 1 && check(&cluster, "/")?.sum("uploads_under_way")? == 1)
    })?;
    cluster.workers[0].kill()?;
    lake.proxy.behave(Behaviour { answer: Some(403), method: "DELETE".to_owned(), ..Behaviour::default() });
    cluster.workers[0].launch()?;
    cluster.wait_workers(1)?;
    let left = check(&cluster, "/")?;
    ensure!(left.findings == found(&[("left-upload", "/f")]), "{}", left.said);
    lake.proxy.behave(Behaviour::default());
    eventually("it is aborted", || Ok(lake.minio.uploads()? == 0 && check(&cluster, "/")?.findings.is_empty()))?;
    // Who writes it waits for a worker that has lost it.
    cluster.mounts[0].kill()?;
    cluster.mountpoint(0).abort()?;
    writing.end().map(drop)
}

#[test]
fn what_changes_meanwhile_is_no_finding() -> Result<()> {
    std::thread::scope(|scope| {
        let modes =
            ["through", "async"].map(|durability| (durability, scope.spawn(move || changed_meanwhile(durability))));
        modes
            .into_iter()
            .try_for_each(|(durability, mode)| mode.join().expect("they return errors").context(durability))
    })
}

fn changed_meanwhile(durability: &str) -> Result<()> {
    const WRITERS: u64 = 4;
    let lake = Lake::empty()?;
    let cluster = lake.cluster().store(&["--durability", durability]).start()?;
    let over = AtomicBool::new(false);
    let change = |writer: u64| -> Result<()> {
        let home = cluster.path(0, &format!("home-{writer}"));
        fs::create_dir(&home)?;
        for round in 0_u64.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let (dir, moved) = (home.join(format!("d{}", round % 5)), home.join(format!("m{round}")));
            fs::create_dir(&dir)?;
            for n in 0..4 {
                write_and_close(&dir.join(format!("f{n}")), &noise(round + n, 1000))?;
            }
            write_and_close(&dir.join("f0"), b"again")?;
            fs::remove_file(dir.join("f1"))?;
            fs::rename(dir.join("f2"), dir.join("f3"))?;
            fs::rename(&dir, &moved)?;
            if round > 3 {
                fs::remove_file(home.join(format!("m{}/f0", round - 3))).or_else(unless_busy)?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || change(writer))).collect();
        let mut checked = Ok(());
        for _ in 0..5 {
            checked = check(&cluster, "/").and_then(|checked| {
                ensure!(checked.findings.is_empty(), "{}", checked.said);
                Ok(())
            });
            if checked.is_err() {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().expect("they return errors")?;
        }
        checked
    })?;
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "60s"])?;
    must_be_clean(&cluster, Duration::from_secs(30))
}

/// What waits for objects to be moved may be refused.
fn unless_busy(error: std::io::Error) -> std::io::Result<()> {
    if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EIO)) { Ok(()) } else { Err(error) }
}
