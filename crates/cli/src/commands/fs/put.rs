//! `headpond fs put`.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Args;
use headpond_client::{FileWriter, NewFile, Owner};
use headpond_types::{Error, ErrorKind, NsPath};
use indicatif::ProgressBar;

use super::{
    progress,
    writing::{owner, place},
};
use crate::{
    failure::Result,
    output::{PathJson, escape, size},
    session::Session,
};

/// Permission bits of a new file before the umask.
const MODE: u32 = 0o666;

/// Bytes handed over at once.
const PIECE: usize = 1 << 20;

/// Write a file from a local one, or from standard input.
///
/// Ends when the file is as safe as its mount promises. Readers see the old version until then, and never a part.
#[derive(Debug, Args)]
pub(super) struct PutArgs {
    /// Local file; - for standard input.
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// The file to be.
    #[arg(value_name = "PATH")]
    to: NsPath,
    /// Fail when the file exists already.
    #[arg(short, long)]
    no_replace: bool,
}

#[derive(Debug, serde::Serialize)]
struct PutJson {
    #[serde(flatten)]
    path: PathJson,
    bytes: u64,
}

pub(super) async fn run(session: &mut Session, args: &PutArgs) -> Result<()> {
    let (mut source, length): (Box<dyn Read + Send>, u64) = if args.from == Path::new("-") {
        (Box::new(io::stdin()), 0)
    } else {
        let file = File::open(&args.from).map_err(|error| unreadable(&args.from, error))?;
        let length = file.metadata().map_err(|error| unreadable(&args.from, error))?.len();
        (Box::new(file), length)
    };
    let at = place(session, &args.to).await?;
    let Owner { mode, uid, gid } = owner(session, MODE);
    let new = NewFile { mode, uid, gid, exclusive: args.no_replace, truncate: true };
    let writer = session.client.create(at.dir, &at.name, new).await?;
    let bar = progress::bytes(length);
    let bytes = copy(&mut source, &args.from, &writer, &bar).await?;
    writer.persist(true).await?;
    bar.finish_and_clear();
    if session.out.is_json() {
        return session.out.json(&PutJson { path: (&args.to).into(), bytes });
    }
    session.out.line(&format!("{}: {} written", escape(&args.to.to_bytes()), size(bytes, true)))
}

/// Copies to the end of `source`, and answers how much that was.
async fn copy(source: &mut (dyn Read + Send), path: &Path, writer: &FileWriter, bar: &ProgressBar) -> Result<u64> {
    let mut at = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        source.take(PIECE as u64).read_to_end(&mut piece).map_err(|error| unreadable(path, error))?;
        if piece.is_empty() {
            return Ok(at);
        }
        let length = piece.len() as u64;
        writer.write_at(at, Bytes::from(piece)).await?;
        at += length;
        bar.set_position(at);
    }
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::IsADirectory => ErrorKind::IsADirectory,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("cannot read {}", path.display())).with_source(error)
}
