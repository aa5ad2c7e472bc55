//! What was acknowledged is there after a restart, and what cannot be right is refused.

mod recorder;

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use headpond_journal::{Journal, Position, StateMachine};
use headpond_types::{Error, ErrorKind, Result};
use recorder::{Recorder, open, small};

fn log_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("journal")).expect("lists");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("lists").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_applied_in_order_and_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (recorder, journal) = open(dir.path()).await;
    for command in 0..100 {
        assert_eq!(journal.propose(command).await.expect("takes it"), usize::try_from(command).expect("fits") + 1);
    }
    assert_eq!(recorder.commands(), (0..100).collect::<Vec<_>>());
    let status = journal.status();
    assert_eq!((status.applied, status.stopped), (recorder.applied().expect("reads"), None));
    journal.shutdown().await.expect("ends");
    let error = journal.propose(7).await.expect_err("is shut down");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    drop(journal);

    let (recorder, journal) = open(dir.path()).await;
    assert_eq!(recorder.commands().len(), 100);
    assert_eq!(journal.propose(100).await.expect("takes it"), 101);
    journal.shutdown().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_lost_everything_are_brought_up_again() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, journal) = open(dir.path()).await;
    for command in 0..200 {
        journal.propose(command).await.expect("takes it");
    }
    journal.shutdown().await.expect("ends");
    drop(journal);
    fs::remove_file(dir.path().join("recorder")).expect("removes");
    let (recorder, journal) = open(dir.path()).await;
    assert_eq!(recorder.commands(), (0..200).collect::<Vec<_>>());
    journal.shutdown().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_let_old_log_go() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, journal) = open(dir.path()).await;
    let mut sent = 0;
    while log_files(dir.path()).first().is_some_and(|path| path.ends_with("0000000000000000.log")) {
        journal.propose(sent).await.expect("takes it");
        sent += 1;
        assert!(sent < 100_000, "the first file never goes");
    }
    journal.shutdown().await.expect("ends");
    drop(journal);
    let (recorder, journal) = open(dir.path()).await;
    assert_eq!(recorder.commands(), (0..sent).collect::<Vec<_>>());
    journal.propose(sent).await.expect("takes it");
    journal.shutdown().await.expect("ends");
    drop(journal);

    fs::remove_file(dir.path().join("recorder")).expect("removes");
    let recorder = Arc::new(Recorder::open(dir.path()));
    let error = Journal::open(small(dir.path()), recorder).await.expect_err("the log does not reach back");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("is not of this state directory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_lost_its_log_is_refused() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, journal) = open(dir.path()).await;
    journal.propose(1).await.expect("takes it");
    journal.shutdown().await.expect("ends");
    drop(journal);
    for file in log_files(dir.path()) {
        fs::remove_file(file).expect("removes");
    }
    let recorder = Arc::new(Recorder::open(dir.path()));
    let error = Journal::open(small(dir.path()), recorder).await.expect_err("the log is gone");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_journals_cannot_share_a_directory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, journal) = open(dir.path()).await;
    let error = Journal::open(small(dir.path()), Arc::new(Recorder::open(dir.path()))).await.expect_err("is in use");
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().contains("is used by another process"), "{error}");
    journal.shutdown().await.expect("ends");
    let (_, again) = open(dir.path()).await;
    again.shutdown().await.expect("ends");
}

#[tokio::test]
async fn one_thread_is_enough() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, journal) = open(dir.path()).await;
    let proposals = (0..500).map(|command| journal.propose(command));
    futures::future::try_join_all(proposals).await.expect("takes them");
    journal.shutdown().await.expect("ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_fail_stop_the_journal_and_say_why() {
    #[derive(Debug)]
    struct Broken;
    impl StateMachine for Broken {
        type Command = u64;
        type Outcome = ();
        fn applied(&self) -> Result<Option<Position>> {
            Ok(None)
        }
        fn apply(&self, _: Position, commands: &[&u64]) -> Result<Vec<()>> {
            match commands {
                [] => Ok(Vec::new()),
                [1] => Err(Error::new(ErrorKind::Internal, "the tables caught fire")),
                _ => panic!("the tables are nonsense"),
            }
        }
        fn make_durable(&self) -> Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let journal = Journal::open(small(dir.path()), Arc::new(Broken)).await.expect("opens");
    let error = journal.propose(1).await.expect_err("fails");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("the tables caught fire"), "{error}");
    journal.propose(2).await.expect_err("stays stopped");
    assert_eq!(journal.status().stopped.as_deref(), Some("the tables caught fire"));
    journal.shutdown().await.expect("the log is whole");

    let dir = tempfile::tempdir().expect("a temporary directory");
    let journal = Journal::open(small(dir.path()), Arc::new(Broken)).await.expect("opens");
    let error = journal.propose(2).await.expect_err("fails");
    assert!(error.message().contains("the tables are nonsense"), "{error}");
    journal.shutdown().await.expect("the log is whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_middle_of_the_log_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_, journal) = open(dir.path()).await;
    for command in 0..50 {
        journal.propose(command).await.expect("takes it");
    }
    journal.shutdown().await.expect("ends");
    drop(journal);
    let file = log_files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).expect("reads");
    bytes[1000] ^= 1;
    OpenOptions::new().write(true).open(&file).and_then(|mut file| file.write_all(&bytes)).expect("writes");
    let error = Journal::open(small(dir.path()), Arc::new(Recorder::open(dir.path()))).await.expect_err("is damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains(&file.display().to_string()), "{error}");
    assert_eq!(fs::read(&file).expect("reads"), bytes, "damaged files are left as they are");
}
