//! `headpond fs tail`.

use std::sync::Arc;

use clap::Args;
use headpond_client::OpenFile;
use headpond_types::NsPath;

use super::{
    pieces::Pieces,
    reading::{Amount, open, stream, title},
};
use crate::{failure::Result, session::Session};

/// Bytes read at once while looking backwards for the beginning of a line.
const STEP: u64 = 64 << 10;

/// Print the end of files.
#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// Files.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    #[command(flatten)]
    amount: Amount,
}

pub(super) async fn run(session: &mut Session, args: &TailArgs) -> Result<()> {
    let titles = args.paths.len() > 1 && !session.out.is_json();
    let mut first = true;
    super::for_each_path(session, &args.paths, async |session, path| {
        let file = open(session, path).await?;
        if titles {
            session.out.line(&title(path, std::mem::take(&mut first)))?;
        }
        let start = match args.amount.bytes {
            Some(bytes) => file.length().saturating_sub(bytes),
            None => lines_start(&file, args.amount.lines).await?,
        };
        let mut pieces = Pieces::new(path, start);
        stream(&file, start..file.length(), |chunk| pieces.print(&mut session.out, chunk).map(|()| true)).await?;
        pieces.end(&mut session.out)
    })
    .await
}

/// Where the last `lines` lines begin.
async fn lines_start(file: &Arc<OpenFile>, lines: u64) -> Result<u64> {
    let length = file.length();
    let (mut end, mut left) = (length, lines);
    if lines == 0 {
        return Ok(length);
    }
    while end > 0 {
        let start = end.saturating_sub(STEP);
        let mut chunk = Vec::new();
        stream(file, start..end, |bytes| {
            chunk.extend_from_slice(bytes);
            Ok(true)
        })
        .await?;
        if let Some(at) = nth_line_from_end(&chunk, end == length, &mut left) {
            return Ok(start + at);
        }
        end = start;
    }
    Ok(0)
}

/// Where in `chunk` the line begins that is `left` lines before its end, if it begins there; else takes the lines found off
/// `left`. A newline at the very end of the file (`last` chunk) ends a line and begins none.
fn nth_line_from_end(chunk: &[u8], last: bool, left: &mut u64) -> Option<u64> {
    let searched = if last && chunk.ends_with(b"\n") { &chunk[..chunk.len() - 1] } else { chunk };
    for (at, _) in searched.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
        *left -= 1;
        if *left == 0 {
            return Some(at as u64 + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_backwards_across_chunks() {
        let mut left = 1;
        assert_eq!(nth_line_from_end(b"a\nb\nc\n", true, &mut left), Some(4));
        let mut left = 1;
        assert_eq!(nth_line_from_end(b"a\nb\nc", true, &mut left), Some(4));
        let mut left = 3;
        assert_eq!(nth_line_from_end(b"b\nc\n", true, &mut left), None);
        assert_eq!(left, 2);
        assert_eq!(nth_line_from_end(b"x\ny\na\n", false, &mut left), Some(4));
    }
}
