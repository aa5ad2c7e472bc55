//! A state machine that remembers what it was given.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use headpond_journal::{Journal, JournalConfig, Position, StateMachine};
use headpond_types::Result;

/// Remembers every command. Its "tables" are a file that is written when it is made durable, so a crash loses the rest.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: PathBuf,
    state: Mutex<(Option<Position>, Vec<u64>)>,
}

impl Recorder {
    /// With what was durable in `dir`.
    pub(crate) fn open(dir: &Path) -> Self {
        let file = dir.join("recorder");
        let mut state = (None, Vec::new());
        if let Ok(text) = fs::read_to_string(&file) {
            let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
            let [term, index, commands @ ..] = &numbers[..] else { panic!("the recorder's file is cut off") };
            state = (Some(Position { term: *term, index: *index }), commands.to_vec());
        }
        Self { file, state: Mutex::new(state) }
    }

    /// All commands so far.
    pub(crate) fn commands(&self) -> Vec<u64> {
        self.state.lock().expect("no panics").1.clone()
    }
}

impl StateMachine for Recorder {
    type Command = u64;
    type Outcome = usize;

    fn applied(&self) -> Result<Option<Position>> {
        Ok(self.state.lock().expect("no panics").0)
    }

    fn apply(&self, at: Position, commands: &[&u64]) -> Result<Vec<usize>> {
        let mut state = self.state.lock().expect("no panics");
        assert!(Some(at) > state.0, "{at:?} was applied already");
        state.0 = Some(at);
        let outcome = |command: &&u64| {
            state.1.push(**command);
            state.1.len()
        };
        Ok(commands.iter().map(outcome).collect())
    }

    fn make_durable(&self) -> Result<()> {
        let state = self.state.lock().expect("no panics");
        let (Some(at), commands) = &*state else { return Ok(()) };
        let numbers = [at.term, at.index].into_iter().chain(commands.iter().copied());
        let text: Vec<_> = numbers.map(|number| number.to_string()).collect();
        let new = self.file.with_extension("new");
        fs::write(&new, text.join(" ")).and_then(|()| fs::rename(&new, &self.file)).expect("writes");
        Ok(())
    }
}

/// Settings under which files are small and checkpoints frequent.
pub(crate) fn small(dir: &Path) -> JournalConfig {
    JournalConfig {
        segment_bytes: 16 << 10,
        extend_bytes: 4 << 10,
        checkpoint_bytes: 48 << 10,
        durable_interval: Duration::from_millis(20),
        ..JournalConfig::new(dir.join("journal"))
    }
}

/// A journal with a recorder in `dir`.
pub(crate) async fn open(dir: &Path) -> (Arc<Recorder>, Journal<Recorder>) {
    let recorder = Arc::new(Recorder::open(dir));
    let journal = Journal::open(small(dir), Arc::clone(&recorder)).await.expect("opens");
    (recorder, journal)
}
