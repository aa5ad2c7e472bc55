//! What was acknowledged is there after the process was killed.
//!
//! Alone in its program: a process that is being started holds copies of its parent's locks for a moment.

mod recorder;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command as Process, Stdio},
};

use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use recorder::open;

/// Set for the process that is to be killed: the directory it works in.
const VICTIM: &str = "HEADPOND_JOURNAL_TEST_VICTIM";

/// Not a test by itself: proposes numbers from several tasks and prints each that is acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(dir) = std::env::var(VICTIM) else { return };
    let (recorder, journal) = open(Path::new(&dir)).await;
    let base = recorder.commands().into_iter().max().map_or(0, |last| last + 1);
    let propose = |task: u64| {
        let journal = &journal;
        async move {
            let mut command = base + task;
            loop {
                journal.propose(command).await.expect("takes it");
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {command}.").and_then(|()| out.flush()).expect("prints");
                drop(out);
                command += 8;
            }
        }
    };
    let _: Vec<()> = futures::future::join_all((0..8).map(propose)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let mut seed = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut seed))
        .expect("a seed");
    println!("seed {seed:?}");
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        let count = 1 + random.next_u32() % 3000;
        acknowledged.extend(run_and_kill(dir.path(), count as usize));
        let (recorder, journal) = open(dir.path()).await;
        let found = recorder.commands();
        let unique: std::collections::HashSet<_> = found.iter().copied().collect();
        assert_eq!(unique.len(), found.len(), "round {round}: a command was applied twice");
        let lost: Vec<_> = acknowledged.iter().filter(|command| !unique.contains(command)).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
        journal.shutdown().await.expect("ends");
    }
}

/// Runs a victim until it has acknowledged `count` commands, kills it and answers all that it acknowledged.
fn run_and_kill(dir: &Path, count: usize) -> Vec<u64> {
    let program = std::env::current_exe().expect("this program");
    let mut child = Process::new(program)
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("is piped")).lines();
    let mut acknowledged = Vec::new();
    for line in lines {
        let line = line.expect("reads");
        // The last line may be cut off.
        let number = line.split_once("acknowledged ").and_then(|(_, rest)| rest.strip_suffix('.'));
        acknowledged.extend(number.map(|number| number.parse::<u64>().expect("a number")));
        if acknowledged.len() == count {
            child.kill().expect("kills");
        }
    }
    child.wait().expect("has ended");
    assert!(acknowledged.len() >= count, "the victim ended by itself");
    acknowledged
}
