//! Processes killed while others write (P9): what was acknowledged is there with its bytes, nothing half is seen, and the bucket ends as the
//! namespace says.

mod relocations;
mod uploads;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, Part};
use tempfile::NamedTempFile;

use crate::lake::Lake;

/// Longer than any deadline: an answer that is held back for so long does not come.
const NEVER: Duration = Duration::from_secs(600);

/// Answers to requests by `method` whose target contains `only` do not come. The store has done what they ask for.
fn keeps_answers(method: &str, only: &str) -> Behaviour {
    Behaviour { first_byte: NEVER, method: method.to_owned(), only: only.to_owned(), ..Behaviour::default() }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Master,
    Worker,
    Mount,
    Everything,
}

impl Victim {
    const ALL: [Self; 4] = [Self::Master, Self::Worker, Self::Mount, Self::Everything];

    /// Its processes, in the order in which they are started again.
    fn parts(self, cluster: &mut Cluster) -> Vec<&mut Part> {
        let (master, workers, mounts) = (&mut cluster.master, &mut cluster.workers, &mut cluster.mounts);
        match self {
            Self::Master => vec![master],
            Self::Worker => workers.iter_mut().take(1).collect(),
            Self::Mount => mounts.iter_mut().take(1).collect(),
            Self::Everything => std::iter::once(master).chain(workers).chain(mounts).collect(),
        }
    }

    fn kill(self, cluster: &mut Cluster) -> Result<()> {
        self.parts(cluster).into_iter().try_for_each(Part::kill)
    }

    fn launch(self, cluster: &mut Cluster) -> Result<()> {
        self.parts(cluster).into_iter().try_for_each(Part::launch)
    }
}

/// A file that another program writes and closes: what this one starts meanwhile would have a file that is open here closed in passing, which
/// stores what is written of it.
#[derive(Debug)]
struct Writing {
    program: Child,
    _source: NamedTempFile,
}

impl Writing {
    fn begin(body: &[u8], to: &Path) -> Result<Self> {
        let mut source = NamedTempFile::new()?;
        source.write_all(body)?;
        let program =
            Command::new("cp").arg(source.path()).arg(to).stderr(Stdio::null()).spawn().context("running cp")?;
        Ok(Self { program, _source: source })
    }

    /// Waits for its end: whether close(2), too, has succeeded.
    fn is_acknowledged(&mut self) -> Result<bool> {
        Ok(self.program.wait()?.success())
    }
}

/// Kills each of them in a cluster of its own, all at the same time: most of it is waiting.
fn each(kill: impl Fn(Victim) -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let killing = Victim::ALL.map(|victim| {
            let kill = &kill;
            scope.spawn(move || kill(victim).with_context(|| format!("{victim:?} was killed")))
        });
        let ended = killing.map(|thread| thread.join().expect("they return errors"));
        ended.into_iter().collect::<Result<Vec<()>>>().map(drop)
    })
}

/// The objects that a bucket holds for what is below `root`.
fn objects_of(root: &Path) -> Result<BTreeMap<String, Bytes>> {
    let mut objects = BTreeMap::new();
    let mut open = vec![String::new()];
    while let Some(below) = open.pop() {
        for entry in std::fs::read_dir(root.join(&below)).with_context(|| format!("listing /{below}"))? {
            let entry = entry?;
            let path = format!("{below}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                objects.insert(format!("{path}/"), Bytes::new());
                open.push(format!("{path}/"));
            } else {
                let body = std::fs::read(entry.path()).with_context(|| format!("reading /{path}"))?;
                objects.insert(path, body.into());
            }
        }
    }
    Ok(objects)
}

/// Waits until the bucket holds what is below the first mount, where all directories were made.
fn must_converge(lake: &Lake, cluster: &Cluster) -> Result<()> {
    let objects = objects_of(&cluster.path(0, ""))?;
    lake.must_hold(&objects, &BTreeSet::new())?;
    lake.must_have_no_parts()
}
