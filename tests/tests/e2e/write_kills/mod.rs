//! Processes killed while others write (P9): what was acknowledged is there with its bytes, nothing half is seen, and the bucket ends as the
//! namespace says.

mod checkpoints;
mod points;
mod relocations;
mod uploads;

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::Path,
    process::Output,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, Command, Part, eventually_within};
use tempfile::NamedTempFile;

use crate::lake::Lake;

/// Longer than any deadline: an answer that is held back for so long does not come.
const NEVER: Duration = Duration::from_secs(600);

/// How long it may take after a kill until all is one again: the term of a lease, and what it takes to notice.
const CONVERGED: Duration = Duration::from_secs(90);

/// How long it may take until somebody passes a point, on a busy machine.
const REACHED: Duration = Duration::from_secs(180);

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

/// Who dies when a point in somebody's code is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dies {
    /// Who passes it.
    Itself,
    /// The store.
    Store,
    /// Others, of whom who passes it may be one.
    All(Victim),
}

impl Dies {
    /// What `HEADPOND_KILL_PID` is to say where `passes` passes the point, who is started anew with it.
    fn ids(self, passes: Victim, lake: &Lake, cluster: &mut Cluster) -> Result<String> {
        let victim = match self {
            Self::Itself => return Ok(String::new()),
            Self::Store => return Ok(lake.minio.id().to_string()),
            Self::All(victim) => victim,
        };
        let mut ids = |victim: Victim| victim.parts(cluster).into_iter().map(Part::id).collect::<Result<Vec<_>>>();
        let own = ids(passes)?;
        let names = ids(victim)?;
        let names = names.iter().map(|id| if own.contains(id) { "self".to_owned() } else { id.to_string() });
        Ok(names.collect::<Vec<_>>().join(","))
    }

    /// The processes of ours that die where `passes` passes the point.
    fn victim(self, passes: Victim) -> Option<Victim> {
        match self {
            Self::Itself => Some(passes),
            Self::Store => None,
            Self::All(victim) => Some(victim),
        }
    }

    /// Waits until they are dead.
    fn wait(self, passes: Victim, lake: &mut Lake, cluster: &mut Cluster) -> Result<()> {
        let dead = eventually_within(REACHED, "the point is reached", || {
            let Some(victim) = self.victim(passes) else { return Ok(lake.minio.has_ended()) };
            let mut parts = victim.parts(cluster).into_iter();
            Ok(parts.all(|part| part.process().is_ok_and(|process| process.check_running().is_err())))
        });
        dead.context("a binary without the feature failpoints? `make test` builds one with it")
    }

    /// Starts them again, to be killed no more.
    fn start_again(self, passes: Victim, lake: &mut Lake, cluster: &mut Cluster) -> Result<()> {
        let Some(victim) = self.victim(passes) else { return lake.minio.restart() };
        for part in victim.parts(cluster) {
            part.env("HEADPOND_KILL_AT", "");
        }
        victim.launch(cluster)
    }
}

/// What was told to the one who did something.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It is done: a file is written and closed.
    Acknowledged,
    /// It is not, or it is: with what was said.
    Failed(String),
}

impl Ended {
    fn of(result: std::io::Result<()>) -> Self {
        result.map_or_else(|error| Self::Failed(error.to_string()), |()| Self::Acknowledged)
    }

    fn of_program(Output { status, stderr, .. }: &Output) -> Self {
        let said = || String::from_utf8_lossy(stderr).into_owned();
        if status.success() { Self::Acknowledged } else { Self::Failed(said()) }
    }

    const fn is_acknowledged(&self) -> bool {
        matches!(self, Self::Acknowledged)
    }

    /// A write failed before the file was closed: what was written before it may have been stored by the close.
    fn is_cut(&self) -> bool {
        matches!(self, Self::Failed(said) if said.contains("error writing") || said.contains("error copying"))
    }
}

/// A file that a program writes and closes.
#[derive(Debug)]
pub(crate) struct Writing {
    program: JoinHandle<io::Result<Output>>,
    _source: NamedTempFile,
}

impl Writing {
    pub(crate) fn begin(body: &[u8], to: &Path) -> Result<Self> {
        let mut source = NamedTempFile::new()?;
        source.write_all(body)?;
        let mut command = Command::new("cp");
        command.arg(source.path()).arg(to).env("LC_ALL", "C");
        let program = std::thread::spawn(move || command.output());
        Ok(Self { program, _source: source })
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Result<Ended> {
        Ok(Ended::of_program(&self.program.join().expect("it returns errors")?))
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

/// Waits until the bucket holds under `prefix` what is below `root`, with or without the objects of `either`. What a worker goes on to store although nobody
/// waits for it may turn up meanwhile, first in the bucket.
fn must_converge(lake: &Lake, root: &Path, prefix: &str, either: &[&str]) -> Result<()> {
    let mut last = None;
    let converged = eventually_within(CONVERGED, "the bucket holds what the namespace says", || {
        // What is listed may be gone when it is read, and a mount that was just started is not ready at once.
        let (Ok(seen), Ok(mut held)) = (objects_of(root), lake.objects()) else { return Ok(false) };
        let mut seen: BTreeMap<_, _> = seen.into_iter().map(|(key, body)| (format!("{prefix}{key}"), body)).collect();
        for objects in [&mut seen, &mut held] {
            objects.retain(|key, _| !either.contains(&&key[..]));
        }
        let is_one = seen == held;
        last = Some((seen, held));
        Ok(is_one)
    });
    converged.with_context(|| {
        let (seen, held) = last.unwrap_or_default();
        let differ = |one: &BTreeMap<String, Bytes>, other: &BTreeMap<String, Bytes>| {
            let only = one.iter().filter(|(key, body)| other.get(*key) != Some(*body));
            only.map(|(key, body)| (key.clone(), body.len())).collect::<Vec<_>>()
        };
        format!("in the namespace: {:?}\nin the bucket: {:?}", differ(&seen, &held), differ(&held, &seen))
    })?;
    lake.must_have_no_parts()
}
