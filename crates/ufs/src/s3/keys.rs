//! How keys, ETags and times are written in the protocol.

use std::borrow::Cow;

use aws_smithy_types::DateTime;
use bytes::Bytes;
use headpond_types::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::Key;

/// What must be escaped in `x-amz-copy-source`: all but RFC 3986's unreserved characters and the slash.
const COPY_SOURCE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The key behind text of a listing with `encoding-type=url`, where a space is `+`.
pub(super) fn decoded(text: &str) -> Key {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    Key(Bytes::from(percent_decode_str(&spaced).collect::<Vec<u8>>()))
}

/// The value of `x-amz-copy-source`.
pub(super) fn copy_source(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}", utf8_percent_encode(key, COPY_SOURCE))
}

/// An ETag without its quotes.
pub(super) fn unquoted(etag: &str) -> &str {
    etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(etag)
}

/// A version as an ETag in a header.
pub(super) fn quoted(version: &str) -> String {
    format!("\"{version}\"")
}

/// A time in whole seconds: HTTP headers have no more, listings of some servers do, and one object must have one time.
pub(super) fn timestamp(time: &DateTime) -> Timestamp {
    Timestamp(time.secs().saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_keys_are_decoded_byte_by_byte() {
        for (text, key) in [
            ("a/b", "a/b".as_bytes()),
            ("a+b%2Bc%20d", b"a b+c d"),
            ("%00%0A%ff", b"\0\n\xff"),
            ("100%", b"100%"),
            ("gr%C3%BCn", "grün".as_bytes()),
        ] {
            assert_eq!(decoded(text).as_bytes(), key, "{text}");
        }
    }

    #[test]
    fn a_copy_source_escapes_all_but_slashes() {
        assert_eq!(copy_source("b", "d e/ü+%\n?.txt"), "b/d%20e/%C3%BC%2B%25%0A%3F.txt");
    }

    #[test]
    fn etags_lose_and_gain_their_quotes() {
        assert_eq!(unquoted("\"abc-2\""), "abc-2");
        assert_eq!(unquoted("abc"), "abc");
        assert_eq!(quoted("abc"), "\"abc\"");
    }
}
