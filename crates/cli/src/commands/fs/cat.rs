//! `headpond fs cat`.

use clap::Args;
use headpond_types::{ByteRange, Error, ErrorKind, NsPath};

use super::{
    pieces::Pieces,
    reading::{open, stream},
};
use crate::{args::parse_size, failure::Result, session::Session};

/// Print files.
///
/// With -o json each piece of a file is an object: its text, or its bytes in hexadecimal where they are no UTF-8.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond fs cat /data/a.csv /data/b.csv > all.csv
  headpond fs cat --offset 1GiB --length 1MiB /data/big.bin
  headpond fs cat --range 100-199 /data/big.bin      the second hundred bytes")]
pub(super) struct CatArgs {
    /// Files.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Begin this many bytes (or 4KiB, 1GiB, …) into the file.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "0", conflicts_with = "range")]
    offset: u64,
    /// Print at most this many bytes.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "range")]
    length: Option<u64>,
    /// First and last byte, counted from 0, as in HTTP: 0-99, or 100- to the end.
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse_range)]
    range: Option<ByteRange>,
}

pub(super) async fn run(session: &mut Session, args: &CatArgs) -> Result<()> {
    let end = args.length.map_or(u64::MAX, |length| args.offset.saturating_add(length));
    let wanted = args.range.clone().unwrap_or(args.offset..end);
    super::for_each_path(session, &args.paths, async |session, path| {
        let file = open(session, path).await?;
        let range = wanted.start.min(file.length())..wanted.end.min(file.length());
        let mut pieces = Pieces::new(path, range.start);
        stream(&file, range, |chunk| pieces.print(&mut session.out, chunk).map(|()| true)).await?;
        pieces.end(&mut session.out)
    })
    .await
}

fn parse_range(text: &str) -> Result<ByteRange, Error> {
    let parse = || {
        let (first, last) = text.split_once('-')?;
        let first = first.parse().ok()?;
        let end = if last.is_empty() { u64::MAX } else { last.parse::<u64>().ok()?.checked_add(1)? };
        (first < end).then_some(first..end)
    };
    parse().ok_or_else(|| {
        let message = format!("{text:?} is not a range of bytes: write first and last as 0-99, or 100- to the end");
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_their_last_byte() {
        assert_eq!(parse_range("0-99").expect("valid"), 0..100);
        assert_eq!(parse_range("5-5").expect("valid"), 5..6);
        assert_eq!(parse_range("7-").expect("valid"), 7..u64::MAX);
        for text in ["", "5", "5-4", "-5", "a-b", "0-18446744073709551615"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }
}
