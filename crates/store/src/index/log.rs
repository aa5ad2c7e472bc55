//! The log file: replay at open, appends, and rewriting when most of it is history.

use std::{
    collections::hash_map::RandomState,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::{self, BufReader, BufWriter, Read, Write},
    os::fd::AsFd,
    os::unix::fs::FileExt,
};

use rustix::fs::{Mode, OFlags};

use super::record::{Header, RECORD_LEN, Record, VERSION};

const NAME: &str = "index";
const NEW_NAME: &str = "index.new";
/// Records that may be history before a rewrite is thought of: below this, rewriting saves nothing worth having.
const SLACK: u64 = 4096;

/// What reading a log brought.
#[derive(Debug)]
pub(crate) enum Replay {
    /// So many records are good; `torn` if something that is not follows them.
    Read { salt: u64, records: u64, torn: bool },
    /// There is none, or not even its header is good.
    Nothing,
    /// It was written by a later release.
    Newer { version: u32, known: u32 },
}

/// An open log. All methods do IO; the caller's lock orders them.
#[derive(Debug)]
pub(crate) struct IndexLog {
    /// `None` once closed.
    file: Option<File>,
    salt: u64,
    records: u64,
    /// No rewrite before so many records: the last one failed.
    rewrite_after: u64,
    /// Records appended since a rewrite began, to be repeated in the new log.
    since_rewrite: Option<Vec<Record>>,
}

/// A log being written beside the one in use.
#[derive(Debug)]
pub(crate) struct Rewrite {
    out: BufWriter<File>,
    salt: u64,
    records: u64,
}

/// Reads the log in `dir`, giving each good record to `each` in order.
pub(crate) fn read(dir: impl AsFd, mut each: impl FnMut(Record)) -> io::Result<Replay> {
    let file = match rustix::fs::openat(dir, NAME, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(Replay::Nothing),
        Err(error) => return Err(error.into()),
    };
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut bytes = [0; RECORD_LEN];
    if !read_record(&mut input, &mut bytes)? {
        return Ok(Replay::Nothing);
    }
    let salt = match Header::decode(&bytes) {
        Header::Valid { salt } => salt,
        Header::Newer(version) => return Ok(Replay::Newer { version, known: VERSION }),
        Header::Damaged => return Ok(Replay::Nothing),
    };
    let length = input.get_ref().metadata()?.len();
    let mut records = 0;
    while read_record(&mut input, &mut bytes)? {
        let Some(record) = Record::decode(&bytes, salt, records) else { break };
        each(record);
        records += 1;
    }
    Ok(Replay::Read { salt, records, torn: length > offset(records) })
}

/// Opens the log that [`read`] found in `dir`, cut after its last good record; or a new one.
pub(crate) fn open(dir: impl AsFd, replay: &Replay) -> io::Result<IndexLog> {
    match *replay {
        Replay::Read { salt, records, .. } => {
            let fd = rustix::fs::openat(dir, NAME, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            let file = File::from(fd);
            file.set_len(offset(records))?;
            Ok(IndexLog { file: Some(file), salt, records, rewrite_after: 0, since_rewrite: None })
        }
        Replay::Nothing | Replay::Newer { .. } => {
            let mut log = IndexLog { file: None, salt: 0, records: 0, rewrite_after: 0, since_rewrite: None };
            log.replace(Rewrite::begin(dir.as_fd())?, dir)?;
            Ok(log)
        }
    }
}

impl IndexLog {
    /// Appends `record`. After an error the log is as before; a part that reached the disk is overwritten by the next.
    pub(crate) fn append(&mut self, record: Record) -> io::Result<()> {
        let file = self.file.as_ref().ok_or_else(closed)?;
        file.write_all_at(&record.encode(self.salt, self.records), offset(self.records))?;
        self.records += 1;
        if let Some(since) = &mut self.since_rewrite {
            since.push(record);
        }
        Ok(())
    }

    /// Whether most records are history, given the number that are not; then begins to note what is appended.
    pub(crate) fn begin_rewrite(&mut self, live: u64) -> bool {
        let enough = self.records > (2 * live + SLACK).max(self.rewrite_after);
        let due = enough && self.since_rewrite.is_none() && self.file.is_some();
        if due {
            self.since_rewrite = Some(Vec::new());
        }
        due
    }

    /// Puts the finished rewrite in place: durable before it replaces the old log.
    pub(crate) fn replace(&mut self, mut rewrite: Rewrite, dir: impl AsFd) -> io::Result<()> {
        for record in self.since_rewrite.take().unwrap_or_default() {
            rewrite.push(record)?;
        }
        let file = rewrite.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        rustix::fs::renameat(&dir, NEW_NAME, &dir, NAME)?;
        rustix::fs::fsync(&dir)?;
        (self.file, self.salt, self.records) = (Some(file), rewrite.salt, rewrite.records);
        Ok(())
    }

    /// Gives up a rewrite that failed; the next is tried after some more records.
    pub(crate) fn abandon_rewrite(&mut self) {
        self.since_rewrite = None;
        self.rewrite_after = self.records + SLACK;
    }

    /// No record is written any more.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.file.is_none()
    }
}

impl Rewrite {
    pub(crate) fn begin(dir: impl AsFd) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(dir, NEW_NAME, flags, Mode::RUSR | Mode::WUSR)?);
        let salt = RandomState::new().build_hasher().finish();
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&Header::encode(salt))?;
        Ok(Self { out, salt, records: 0 })
    }

    pub(crate) fn push(&mut self, record: Record) -> io::Result<()> {
        self.out.write_all(&record.encode(self.salt, self.records))?;
        self.records += 1;
        Ok(())
    }

    /// Makes durable what is there, so that little is left to do under the lock.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }
}

const fn offset(records: u64) -> u64 {
    (records + 1) * RECORD_LEN as u64
}

/// Whether a whole record was there to read.
fn read_record(input: &mut impl Read, bytes: &mut [u8; RECORD_LEN]) -> io::Result<bool> {
    match input.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn closed() -> io::Error {
    io::Error::other("the directory is closed")
}
