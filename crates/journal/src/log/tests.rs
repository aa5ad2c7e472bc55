//! Writing, cutting, damaging and recovering log files.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use openraft::CommittedLeaderId;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    Log, Payload, RawEntry, Record,
    files::{Files, lock},
    frame::Frame,
    recover::segment_path,
};
use crate::{
    config::JournalConfig,
    directory,
    error::JournalError,
    machine::Position,
    raft::{LogId, Vote},
};

fn config(dir: &Path) -> JournalConfig {
    JournalConfig { segment_bytes: 2048, extend_bytes: 512, ..JournalConfig::new(dir) }
}

/// All in one file.
fn one_file(dir: &Path) -> JournalConfig {
    JournalConfig { segment_bytes: 1 << 20, ..config(dir) }
}

fn open(config: &JournalConfig) -> Result<Files, JournalError> {
    Files::open(config, directory::claim(&config.dir)?)
}

fn id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 0), index)
}

fn entry(index: u64, bytes: usize) -> Record {
    let fill = u8::try_from(index % 251).expect("is small");
    let payload = Payload::Commands(Bytes::from(vec![fill; bytes]));
    Record::Entry(RawEntry { at: Position { term: 1, index }, payload })
}

fn entries(files: &Files) -> Vec<Record> {
    let places = lock(files.index()).places(0..u64::MAX);
    places.iter().map(|place| Record::Entry(place.read().expect("reads"))).collect()
}

/// Writes each record by itself and durably.
fn write_each(files: &mut Files, records: &[Record]) {
    for record in records {
        files.write(std::iter::once(record)).expect("writes");
        files.sync().expect("syncs");
    }
}

/// A log of ten entries in one file, its bytes, and where each frame is.
fn ten() -> (TempDir, PathBuf, Vec<u8>, Vec<Range<usize>>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut files = open(&one_file(dir.path())).expect("opens");
    write_each(
        &mut files,
        &(0..10).map(|index| entry(index, 20 + usize::try_from(index).expect("is small"))).collect::<Vec<_>>(),
    );
    drop(files);
    let path = segment_path(dir.path(), 0);
    let bytes = fs::read(&path).expect("reads");
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(frame) = Frame::read(&bytes[at..]) {
        frames.push(at..at + frame.size());
        at += frame.size();
    }
    assert_eq!(frames.len(), 11, "a state and ten entries");
    (dir, path, bytes, frames)
}

#[test]
fn a_last_frame_torn_at_any_byte_is_dropped_and_written_again() {
    let (dir, path, bytes, frames) = ten();
    let last = frames.last().expect("there are frames").clone();
    // The zeros that fill up a frame are not missed.
    let body_end = last.start + super::frame::HEADER + (1 + 16 + 1 + 29);
    for cut in last.start..body_end {
        for zeros_follow in [false, true] {
            let mut torn = bytes[..cut].to_vec();
            if zeros_follow {
                torn.resize(bytes.len(), 0);
            }
            fs::write(&path, torn).expect("writes");
            let mut files = open(&one_file(dir.path())).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            assert_eq!(entries(&files).len(), 9, "cut at {cut}");
            write_each(&mut files, &[entry(9, 5), entry(10, 5)]);
            drop(files);
            let files = open(&one_file(dir.path())).expect("opens");
            assert_eq!(entries(&files)[9..], [entry(9, 5), entry(10, 5)]);
        }
    }
}

#[test]
fn any_byte_damaged_in_the_middle_is_an_error() {
    let (dir, path, bytes, frames) = ten();
    for at in frames[0].start..frames[9].end {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).expect("writes");
        match open(&one_file(dir.path())) {
            Err(JournalError::Damaged { .. }) => assert_eq!(fs::read(&path).expect("reads"), damaged, "left as it is"),
            Err(other) => panic!("byte {at}: {other}"),
            // Only the zeros that fill up a frame carry nothing.
            Ok(files) => assert_eq!(entries(&files).len(), 10, "byte {at} went unnoticed"),
        }
    }
}

#[test]
fn a_power_cut_may_lose_the_first_of_two_frames_written_at_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut files = open(&one_file(dir.path())).expect("opens");
    write_each(&mut files, &[entry(0, 10)]);
    files.write([entry(1, 40), entry(2, 40)].iter()).expect("writes");
    drop(files);
    let path = segment_path(dir.path(), 0);
    let mut bytes = fs::read(&path).expect("reads");
    let second = bytes.windows(40).position(|window| window == [1; 40]).expect("the second entry");
    bytes[second..second + 40].fill(0);
    fs::write(&path, &bytes).expect("writes");

    let mut files = open(&one_file(dir.path())).expect("neither was acknowledged");
    assert_eq!(entries(&files), [entry(0, 10)]);
    // As long as the lost frame, so that what was behind it would fit on.
    write_each(&mut files, &[entry(1, 40)]);
    drop(files);
    let files = open(&one_file(dir.path())).expect("opens");
    assert_eq!(entries(&files), [entry(0, 10), entry(1, 40)], "nothing of the cut write comes back");
}

#[test]
fn a_sealed_log_notices_damage_to_its_last_entry() {
    let (dir, path, _, frames) = ten();
    let mut files = open(&one_file(dir.path())).expect("opens");
    files.seal().expect("seals");
    drop(files);
    let mut bytes = fs::read(&path).expect("reads");
    bytes[frames[10].end - 12] ^= 1;
    fs::write(&path, bytes).expect("writes");
    assert!(matches!(open(&one_file(dir.path())), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_missing_file_is_an_error() {
    for missing in [0, 1] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut files = open(&config(dir.path())).expect("opens");
        write_each(&mut files, &(0..100).map(|index| entry(index, 100)).collect::<Vec<_>>());
        drop(files);
        fs::remove_file(segment_path(dir.path(), missing)).expect("there is such a file");
        let error = open(&config(dir.path())).expect_err("entries are missing");
        assert!(matches!(error, JournalError::Missing { .. } | JournalError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_file_that_a_crash_left_half_made_is_made_again() {
    let (dir, _, _, _) = ten();
    fs::write(segment_path(dir.path(), 1), [0; 512]).expect("writes");
    let files = open(&one_file(dir.path())).expect("opens");
    assert_eq!(entries(&files).len(), 10);
    assert!(!segment_path(dir.path(), 1).exists());
}

#[test]
fn the_first_failed_write_is_the_last() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut files = open(&one_file(dir.path())).expect("opens");
    files.deny_writes();
    let log = Log::of(files);
    for _ in 0..2 {
        let error = log.write_durably(&[Record::Vote(Vote::new(1, 1))]).expect_err("cannot be written");
        assert!(matches!(&error, JournalError::Stopped { reason } if reason.contains("writing")), "{error}");
    }
    assert!(log.failure().is_some());
    log.close().expect_err("did not end well");
}

#[test]
fn what_could_not_be_synced_is_not_acknowledged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut files = open(&one_file(dir.path())).expect("opens");
    files.deny_syncs();
    let log = Log::of(files);
    let error = log.write_durably(&[Record::Vote(Vote::new(1, 1))]).expect_err("written and not durable");
    assert!(matches!(&error, JournalError::Stopped { reason } if reason.contains("syncing")), "{error}");
    log.close().expect_err("did not end well");
}

#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, bytes: usize },
    Truncate(prop::sample::Index),
    Purge(prop::sample::Index),
    Vote(u64),
    Seal,
    Reopen,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5u64, 0..700usize).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        2 => any::<prop::sample::Index>().prop_map(Step::Purge),
        1 => (1..100u64).prop_map(Step::Vote),
        1 => Just(Step::Seal),
        2 => Just(Step::Reopen),
    ]
}

/// What the files must hold.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Record>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

impl Model {
    fn records(&mut self, step: &Step) -> Vec<Record> {
        let next = self.entries.last_key_value().map(|(index, _)| *index).max(self.purged.map(|id| id.index));
        let next = next.map_or(0, |last| last + 1);
        let indexes: Vec<_> = self.entries.keys().copied().collect();
        match step {
            Step::Append { count, bytes } => {
                let new: Vec<_> = (next..next + count).map(|index| entry(index, *bytes)).collect();
                self.entries.extend((next..).zip(new.clone()));
                new
            }
            Step::Truncate(at) if !indexes.is_empty() => {
                let from = *at.get(&indexes);
                self.entries.split_off(&from);
                vec![Record::Truncate(from)]
            }
            Step::Purge(at) if !indexes.is_empty() => {
                let upto = *at.get(&indexes);
                self.entries = self.entries.split_off(&(upto + 1));
                self.purged = Some(id(upto));
                vec![Record::Purge(id(upto))]
            }
            Step::Vote(term) => {
                self.vote = Some(Vote::new(*term, 1));
                vec![Record::Vote(Vote::new(*term, 1))]
            }
            _ => vec![],
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_hold_what_was_written(steps in proptest::collection::vec(steps(), 1..60)) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut files = open(&config(dir.path())).expect("opens");
        let mut model = Model::default();
        for step in steps {
            let records = model.records(&step);
            files.write(records.iter()).expect("writes");
            files.sync().expect("syncs");
            files.remove_obsolete().expect("removes");
            match step {
                Step::Seal => files.seal().expect("seals"),
                Step::Reopen => {
                    drop(files);
                    files = open(&config(dir.path())).expect("opens");
                }
                _ => {}
            }
            let held: Vec<_> = model.entries.values().cloned().collect();
            prop_assert_eq!(entries(&files), held);
            prop_assert_eq!((files.state().purged, files.state().vote), (model.purged, model.vote));
        }
    }
}
