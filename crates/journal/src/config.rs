//! Settings of a journal.

use std::{path::PathBuf, time::Duration};

/// Settings of a journal. All need a restart.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Where its files are. Made when missing.
    pub dir: PathBuf,
    /// This node's number among the voters. Default 1.
    pub node: u64,
    /// Bytes after which a log file is closed and the next begun. Default 16 MiB. More: fewer files; less: log is dropped in
    /// smaller parts.
    pub segment_bytes: u64,
    /// Bytes by which a log file is extended with zeros ahead of use. Default 4 MiB. More: fewer slow syncs; less: less
    /// space used while idle.
    pub extend_bytes: u64,
    /// Bytes of log since the last checkpoint that call for the next. Default 64 MiB. More: fewer; less: less disk.
    pub checkpoint_bytes: u64,
    /// Bytes of commands that one Raft entry may have, unless one command alone has more. Default 256 KiB: larger entries wait longer for
    /// the disk than they save.
    pub entry_bytes: usize,
    /// Entries under way at once. Default 1: in one run of each over redb, on a busy machine, 64 proposers made 35,400 creates a second
    /// with 1 and 25,600 with 2, and 512 proposers as many with either. Measure before changing it.
    pub entries_in_flight: usize,
    /// How often the tables are made durable while commands come. Default 1 s. More: longer replay after a crash; less: more
    /// writing.
    pub durable_interval: Duration,
}

impl JournalConfig {
    /// The defaults, with files in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            node: 1,
            segment_bytes: 16 << 20,
            extend_bytes: 4 << 20,
            checkpoint_bytes: 64 << 20,
            entry_bytes: 256 << 10,
            entries_in_flight: 1,
            durable_interval: Duration::from_secs(1),
        }
    }
}
