//! What is done while somebody is killed, and what may be seen of it then.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use headpond_tests::{Command, noise};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::{Ended, Writing, objects_of};

/// All is below it: nothing can be written past a mount that is not there.
pub(super) const HOME: &str = "home";

/// Objects in the directory that is renamed.
const FILES: u64 = 20;

/// More than one PUT takes.
const LARGE: usize = 20 << 20;

/// What is in the directory that is removed with all below.
const TREE: [&str; 3] = ["a", "b/c", "b/d"];

/// Files beside, with their keys as bytes.
const OTHERS: [&str; 7] = ["there", "gone", "over", "source", "left", "right", "first"];

/// What is done one after the other.
pub(super) type Done = Vec<(&'static str, Ended)>;

/// Directories that have a marker or have none: of which objects alone say that they are there.
pub(super) const EITHER: [&str; 5] = ["home/", "home/old/", "home/moved/", "home/tree/", "home/tree/b/"];

/// The same where directories are stored later, which files in them may make needless.
pub(super) const EITHER_LATER: [&str; 7] =
    ["home/", "home/old/", "home/moved/", "home/tree/", "home/tree/b/", "home/made/", "home/out/"];

/// Of each second more than is read and put again when it is moved.
fn body_of(n: u64) -> Bytes {
    noise(n, if n.is_multiple_of(2) { 2_000 } else { 1_100_000 })
}

/// The objects before.
pub(super) fn before() -> Vec<(String, Bytes)> {
    let files = (0..FILES).map(|n| (format!("old/f{n:02}"), body_of(n)));
    let tree = TREE.iter().map(|name| (format!("tree/{name}"), Bytes::from(*name)));
    let others = OTHERS.iter().map(|key| ((*key).to_owned(), Bytes::from(*key)));
    let marked = [("marked/", ""), ("marked/inside", "inside")].map(|(key, body)| (key.to_owned(), Bytes::from(body)));
    let all = files.chain(tree).chain(others).chain(marked);
    all.map(|(key, body)| (format!("{HOME}/{key}"), body)).collect()
}

/// How many files and directories are seen of [`before`].
pub(super) fn seen_before() -> usize {
    // Directories are those with files, of which one has a marker.
    before().len() + ["old", "tree", "tree/b"].len()
}

/// Does one thing after the other below `root`; `remove` removes the tree.
pub(super) fn work(root: PathBuf, remove: Command) -> JoinHandle<Result<Done>> {
    std::thread::spawn(move || {
        let path = |below: &str| root.join(below);
        let put = |below: &str, body: &[u8]| Writing::begin(body, &path(below))?.end();
        let rename = |from: &str, to: &str| Ended::of(std::fs::rename(path(from), path(to)));
        let exchange = |one: &str, other: &str| {
            let exchanged = renameat_with(CWD, path(one), CWD, path(other), RenameFlags::EXCHANGE);
            Ended::of(exchanged.map_err(Into::into))
        };
        Ok(vec![
            ("put new", put("new", b"new")?),
            ("put there", put("there", b"changed")?),
            ("mkdir made", Ended::of(std::fs::create_dir(path("made")))),
            ("put made/inside", put("made/inside", &noise(99, LARGE))?),
            ("unlink gone", Ended::of(std::fs::remove_file(path("gone")))),
            ("rename source over", rename("source", "over")),
            ("rename old moved", rename("old", "moved")),
            ("put moved/new", put("moved/new", b"new there")?),
            ("exchange left right", exchange("left", "right")),
            ("link first second", Ended::of(std::fs::hard_link(path("first"), path("second")))),
            ("rm -r tree", Ended::of_program(&remove.output()?)),
            ("rename marked renamed", rename("marked", "renamed")),
            ("mkdir _temporary", Ended::of(std::fs::create_dir(path("_temporary")))),
            ("mkdir _temporary/job", Ended::of(std::fs::create_dir(path("_temporary/job")))),
            ("put _temporary/job/part", put("_temporary/job/part", b"part")?),
            ("rename _temporary/job out", rename("_temporary/job", "out")),
        ])
    })
}

/// Ends a job that was not told that it has: what has a temporary name is never stored on some mounts.
pub(super) fn finish(root: &Path) -> Result<()> {
    let temporary = root.join("_temporary");
    if temporary.join("job").try_exists()? {
        std::fs::rename(temporary.join("job"), root.join("out"))?;
    }
    if temporary.try_exists()? {
        std::fs::remove_dir(temporary)?;
    }
    Ok(())
}

/// Fails unless `root` shows what was acknowledged, and what was not as either before or after.
pub(super) fn check(root: &Path, done: &Done) -> Result<()> {
    let objects = objects_of(root)?;
    let at = |key: &str| objects.get(key).map(|body| &body[..]);
    let none_below = |prefix: &str| !objects.keys().any(|key| key.starts_with(prefix));
    for (what, ended) in done {
        let put = |key: &str, body: &[u8], before: Option<&[u8]>| {
            let found = at(key);
            let is_cut = ended.is_cut() && found.is_some_and(|found| body.starts_with(found));
            (found == Some(body), found == before || is_cut)
        };
        let (after, before) = match *what {
            "put new" => put("new", b"new", None),
            "put there" => put("there", b"changed", Some(b"there")),
            "mkdir made" => (at("made/").is_some(), at("made/").is_none()),
            "put made/inside" => put("made/inside", &noise(99, LARGE), None),
            "unlink gone" => (at("gone").is_none(), at("gone") == Some(b"gone")),
            "rename source over" => (
                at("source").is_none() && at("over") == Some(b"source"),
                at("source") == Some(b"source") && at("over") == Some(b"over"),
            ),
            "rename old moved" => {
                let whole = |name: &str| (0..FILES).all(|n| at(&format!("{name}/f{n:02}")) == Some(&body_of(n)));
                let none = |name: &str| none_below(&format!("{name}/f"));
                (whole("moved") && none("old"), whole("old") && none("moved"))
            }
            "put moved/new" => put("moved/new", b"new there", None),
            "exchange left right" => {
                let are = |left: &[u8], right: &[u8]| at("left") == Some(left) && at("right") == Some(right);
                (are(b"right", b"left"), are(b"left", b"right"))
            }
            "link first second" => {
                let is_whole = at("first") == Some(b"first");
                (is_whole && at("second") == Some(b"first"), is_whole && at("second").is_none())
            }
            "rm -r tree" => {
                (none_below("tree/"), TREE.iter().all(|name| at(&format!("tree/{name}")) == Some(name.as_bytes())))
            }
            "rename marked renamed" => {
                let whole = |name: &str| at(&format!("{name}/inside")) == Some(b"inside");
                (whole("renamed") && none_below("marked/"), whole("marked") && none_below("renamed/"))
            }
            // What is made in it tells.
            "mkdir _temporary" => (true, true),
            "mkdir _temporary/job" => (at("_temporary/job/").or(at("out/")).is_some(), true),
            "put _temporary/job/part" => {
                let found = if at("out/").is_some() { "out/part" } else { "_temporary/job/part" };
                put(found, b"part", None)
            }
            "rename _temporary/job out" => {
                // What nobody was told to be stored may be found under its old path.
                let part = done.iter().find(|(what, _)| *what == "put _temporary/job/part");
                let may_stay = part.is_some_and(|(_, put)| !put.is_acknowledged());
                let is_gone = none_below("_temporary/job") || (may_stay && at("_temporary/job/part").is_some());
                (at("out/").is_some() && is_gone, at("out/").is_none())
            }
            other => unreachable!("{other} is not done"),
        };
        let shown: Vec<_> = objects.iter().map(|(key, body)| (key, body.len())).collect();
        let is_right = after || (before && !ended.is_acknowledged());
        ensure!(is_right, "`{what}`: {ended:?}, and now there is {shown:?}");
    }
    Ok(())
}
