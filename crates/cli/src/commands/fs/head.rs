//! `headpond fs head`.

use clap::Args;
use headpond_types::NsPath;

use super::{
    pieces::Pieces,
    reading::{Amount, open, stream, title},
};
use crate::{failure::Result, session::Session};

/// Print the beginning of files.
#[derive(Debug, Args)]
pub(super) struct HeadArgs {
    /// Files.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    #[command(flatten)]
    amount: Amount,
}

pub(super) async fn run(session: &mut Session, args: &HeadArgs) -> Result<()> {
    let titles = args.paths.len() > 1 && !session.out.is_json();
    let mut first = true;
    super::for_each_path(session, &args.paths, async |session, path| {
        let file = open(session, path).await?;
        if titles {
            session.out.line(&title(path, std::mem::take(&mut first)))?;
        }
        let end = args.amount.bytes.unwrap_or(u64::MAX).min(file.length());
        let mut lines = args.amount.lines;
        let mut pieces = Pieces::new(path, 0);
        stream(&file, 0..end, |chunk| {
            let wanted = if args.amount.bytes.is_some() { chunk.len() } else { lines_end(chunk, &mut lines) };
            pieces.print(&mut session.out, &chunk[..wanted])?;
            Ok(args.amount.bytes.is_some() || lines > 0)
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
