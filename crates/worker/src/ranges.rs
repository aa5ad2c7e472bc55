//! Ranges as requests carry them.

use headpond_proto::v1::Range;
use headpond_types::{ByteRange, Error, ErrorKind, Result};

/// Ranges in one request at most.
const MAX_RANGES: usize = 16 << 10;

/// The ranges of a request.
///
/// # Errors
/// `InvalidArgument` when there are too many of them or one ends before it starts.
pub(crate) fn checked(ranges: Vec<Range>) -> Result<Vec<ByteRange>> {
    let invalid = |message: String| Err(Error::new(ErrorKind::InvalidArgument, message));
    if ranges.len() > MAX_RANGES {
        return invalid(format!("{} ranges in one request: ask for at most {MAX_RANGES}", ranges.len()));
    }
    match ranges.iter().find(|range| range.start > range.end) {
        Some(range) => invalid(format!("a range that ends before it starts: {}..{}", range.start, range.end)),
        None => Ok(ranges.into_iter().map(ByteRange::from).collect()),
    }
}
