//! `headpond fs head`.

use clap::Args;
use headpond_types::NsPath;

use super::{
    pieces::Pieces,
    reading::{open, stream, title},
};
use crate::{args::parse_size, failure::Result, session::Session};

/// Print the beginning of files.
#[derive(Debug, Args)]
pub(super) struct HeadArgs {
    /// Files.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// This many lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    lines: u64,
    /// This many bytes (or 4KiB, 1MiB, …) instead of lines.
    #[arg(short = 'c', long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "lines")]
    bytes: Option<u64>,
}

pub(super) async fn run(session: &mut Session, args: &HeadArgs) -> Result<()> {
    let titles = args.paths.len() > 1 && !session.out.is_json();
    let mut first = true;
    super::for_each_path(session, &args.paths, async |session, path| {
        let file = open(session, path).await?;
        if titles {
            session.out.line(&title(path, std::mem::take(&mut first)))?;
        }
        let end = args.bytes.unwrap_or(u64::MAX).min(file.length());
        let mut lines = args.lines;
        let mut pieces = Pieces::new(path, 0);
        stream(&file, 0..end, |chunk| {
            let wanted = if args.bytes.is_some() { chunk.len() } else { lines_end(chunk, &mut lines) };
            pieces.print(&mut session.out, &chunk[..wanted])?;
            Ok(args.bytes.is_some() || lines > 0)
        })
        .await?;
        pieces.end(&mut session.out)
    })
    .await
}

/// Where in `chunk` the wanted lines end; takes the lines that it holds off `lines`.
fn lines_end(chunk: &[u8], lines: &mut u64) -> usize {
    if *lines == 0 {
        return 0;
    }
    for (at, _) in chunk.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        *lines -= 1;
        if *lines == 0 {
            return at + 1;
        }
    }
    chunk.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_across_chunks() {
        let mut lines = 3;
        assert_eq!(lines_end(b"a\nb", &mut lines), 3);
        assert_eq!(lines_end(b"b\nc\nd\n", &mut lines), 4);
        assert_eq!((lines, lines_end(b"d\n", &mut lines)), (0, 0));
    }
}
