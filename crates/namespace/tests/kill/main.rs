//! Namespace and journal together, killed at any moment: what was acknowledged is there, what was under way is there as a whole or not at
//! all, and a request that is repeated gets the answer that it got before.

mod plan;

use std::{
    collections::{BTreeMap, HashMap},
    io::{BufRead, BufReader, Read as _, Write as _},
    path::Path,
    process::{Command as Process, Stdio},
    sync::Arc,
    time::Duration,
};

use headpond_journal::{Journal, JournalConfig};
use headpond_namespace::{Command, Namespace, Reply, Snapshot};
use headpond_types::InodeId;

use self::plan::{Writer, mix};

/// Set for the process that is to be killed: directory, seed, and the steps that each writer has done.
const VICTIM: &str = "HEADPOND_NAMESPACE_TEST_VICTIM";

const WRITERS: u64 = 6;
const ROUNDS: u64 = 8;
/// Steps of a writer that are looked at for requests to repeat.
const REPEATED: u64 = 100;

struct Catalog {
    namespace: Arc<Namespace>,
    journal: Journal<Namespace>,
}

impl Catalog {
    /// With small files and frequent checkpoints, so that a kill meets those too.
    async fn open(dir: &Path) -> Self {
        let namespace = Arc::new(Namespace::open(&dir.join("namespace"), 8 << 20).expect("opens"));
        let config = JournalConfig {
            segment_bytes: 64 << 10,
            extend_bytes: 16 << 10,
            checkpoint_bytes: 256 << 10,
            durable_interval: Duration::from_millis(20),
            ..JournalConfig::new(dir.join("journal"))
        };
        let journal = Journal::open(config, Arc::clone(&namespace)).await.expect("opens");
        Self { namespace, journal }
    }

    fn snapshot(&self) -> Snapshot {
        self.namespace.snapshot().expect("a snapshot")
    }

    async fn propose(&self, command: Command) -> Reply {
        let reply = self.journal.propose(command).await.expect("takes it").reply;
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
        reply
    }
}

/// The part of a reply that must not change.
fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Mount(mount) => format!("mount{}", mount.id),
        Reply::Worker(worker) => format!("worker{worker}"),
        _ => "done".to_owned(),
    }
}

/// Not a test by itself: all writers go on where they were and print each step that is acknowledged, until the process is killed.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(told) = std::env::var(VICTIM) else { return };
    let mut told = told.split(' ');
    let catalog = Catalog::open(Path::new(told.next().expect("a directory"))).await;
    let mut numbers = told.map(|number| number.parse::<u64>().expect("a number"));
    let seed = numbers.next().expect("a seed");
    let write = |(number, done): (u64, u64)| {
        let catalog = &catalog;
        async move {
            let mut writer = Writer::new(seed, number).after(done);
            loop {
                let reply = catalog.propose(writer.command(&catalog.snapshot())).await;
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {number} {} {}.", writer.done, shown(&reply)).expect("prints");
                out.flush().expect("prints");
                drop(out);
                writer.advance();
            }
        }
    };
    let _: Vec<()> = futures::future::join_all((0..).zip(numbers).map(write)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_keeps_whole_what_it_acknowledged() {
    let mut seed = [0; 8];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut seed)).expect("a seed");
    let seed = u64::from_le_bytes(seed);
    println!("seed {seed}");
    let dir = tempfile::tempdir().expect("a directory");
    let mut writers: Vec<_> = (0..WRITERS).map(|number| Writer::new(seed, number)).collect();
    let mut answers = HashMap::new();
    for round in 0..ROUNDS {
        let steps = 1 + mix(seed ^ round) % 1500;
        for (number, done, answer) in run_and_kill(dir.path(), seed, &writers, steps) {
            let writer = &mut writers[usize::try_from(number).expect("few")];
            assert_eq!(writer.done, done, "steps are acknowledged in order");
            answers.insert((number, done), answer);
            writer.advance();
        }
        let catalog = Catalog::open(dir.path()).await;
        for (number, writer) in (0..).zip(&mut writers) {
            let found = Writer::found(&catalog.snapshot(), writer);
            let mut next = writer.clone();
            next.advance();
            let mut under_way = next.clone();
            under_way.done = writer.done;
            assert!(found == *writer || found == under_way, "round {round}, {writer:?}\nfound {found:?}");
            // What was under way is asked for again, twice: as one that was never done, or as one that was.
            let command = writer.command(&catalog.snapshot());
            let answer = catalog.propose(command.clone()).await;
            assert_eq!(catalog.propose(command).await, answer);
            answers.insert((number, writer.done), shown(&answer));
            *writer = next;
            let found = Writer::found(&catalog.snapshot(), writer);
            assert!(found == *writer, "round {round}, {writer:?}\nfound {found:?}");
        }
        repeat(&catalog, seed, &writers, &answers).await;
        check_counts(&catalog).await;
        catalog.journal.shutdown().await.expect("ends");
    }
}

/// The latest mounts and registrations are asked for again: they get their first answers and change nothing.
async fn repeat(catalog: &Catalog, seed: u64, writers: &[Writer], answers: &HashMap<(u64, u64), String>) {
    let before = catalog.snapshot().mounts().expect("read");
    for (number, writer) in (0..).zip(writers) {
        let mut past = Writer::new(seed, number).after(writer.done.saturating_sub(REPEATED));
        while past.done < writer.done {
            let command = match past.next() {
                plan::Step::AddMount(_) | plan::Step::RemoveMount(_) | plan::Step::Register(_) => {
                    past.command(&catalog.snapshot())
                }
                plan::Step::Upsert(..) | plan::Step::Forget(_) => Command::Noop,
            };
            if command != Command::Noop {
                assert_eq!(shown(&catalog.propose(command).await), answers[&(number, past.done)], "{past:?}");
            }
            past.advance();
        }
    }
    assert_eq!(catalog.snapshot().mounts().expect("read"), before);
}

/// What is counted is what is there, once all remains are cleared away.
async fn check_counts(catalog: &Catalog) {
    while catalog.snapshot().has_remains() {
        catalog.propose(Command::Sweep).await;
    }
    let snapshot = catalog.snapshot();
    let (mut inodes, mut bytes) = (1, 0);
    let mut dirs = vec![InodeId::ROOT];
    let mut seen = BTreeMap::new();
    while let Some(dir) = dirs.pop() {
        for (name, attr) in snapshot.list(dir, None, usize::MAX).expect("read") {
            assert!(seen.insert(attr.inode, name).is_none(), "inode {} has two names", attr.inode);
            inodes += 1;
            match attr.content {
                Some(_) => bytes += attr.size,
                None => dirs.push(attr.inode),
            }
        }
    }
    let counts = snapshot.counts().expect("counted");
    assert_eq!((counts.inodes, counts.file_bytes), (inodes, bytes));
}

/// Runs a victim until it has acknowledged `steps`, kills it, and answers all that it acknowledged: writer, step, answer.
fn run_and_kill(dir: &Path, seed: u64, writers: &[Writer], steps: u64) -> Vec<(u64, u64, String)> {
    let done: Vec<_> = writers.iter().map(|writer| writer.done.to_string()).collect();
    let program = std::env::current_exe().expect("this program");
    let mut child = Process::new(program)
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, format!("{} {seed} {}", dir.display(), done.join(" ")))
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().expect("is piped")).lines() {
        let line = line.expect("reads");
        // The last line may be cut off, the first follows what the harness says.
        let Some(told) = line.split_once("acknowledged ").and_then(|(_, rest)| rest.strip_suffix('.')) else {
            continue;
        };
        let [number, done, answer] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let number_of = |text: &str| text.parse::<u64>().expect("a number");
        acknowledged.push((number_of(number), number_of(done), answer.to_owned()));
        if acknowledged.len() as u64 == steps {
            child.kill().expect("kills");
        }
    }
    child.wait().expect("has ended");
    assert!(acknowledged.len() as u64 >= steps, "the victim ended by itself");
    acknowledged
}
