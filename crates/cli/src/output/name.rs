//! Names and paths, which are bytes, as text and JSON.

use std::fmt::Write as _;

use headpond_types::{Name, NsPath};
use serde::Serialize;

/// The bytes as one line of text: what is not printable UTF-8, and the backslash, as `\xNN` (`\n`, `\t`, `\\`).
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                letter if letter.is_control() => {
                    for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                        push_hex(&mut text, byte);
                    }
                }
                letter => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("a String takes everything");
}

/// The path of an entry of a listing of `directory`: `name` is a name or a path relative to it.
pub(crate) fn below(directory: &NsPath, name: &[u8]) -> Vec<u8> {
    let mut path = if directory.is_root() { Vec::new() } else { directory.to_bytes() };
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// A path in JSON: as text, and in hexadecimal where it is not UTF-8 and the text therefore not exact.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PathJson {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl PathJson {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let path = String::from_utf8_lossy(bytes).into_owned();
        Self { path, path_hex: std::str::from_utf8(bytes).is_err().then(|| hex::encode(bytes)) }
    }
}

impl From<&NsPath> for PathJson {
    fn from(path: &NsPath) -> Self {
        Self::new(&path.to_bytes())
    }
}

impl From<&Name> for PathJson {
    fn from(name: &Name) -> Self {
        Self::new(name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_text_are_shown_on_one_line_and_kept_exactly_in_json() {
        assert_eq!(escape("häh mal".as_bytes()), "häh mal");
        assert_eq!(escape(b"a\nb\\c\xff\x1b"), "a\\nb\\\\c\\xff\\x1b");
        assert_eq!(escape("\u{85}".as_bytes()), "\\xc2\\x85");
        let json = |bytes: &[u8]| serde_json::to_string(&PathJson::new(bytes)).expect("serialisable");
        assert_eq!(json(b"/a"), r#"{"path":"/a"}"#);
        assert_eq!(json(b"/\xff"), "{\"path\":\"/\u{fffd}\",\"path_hex\":\"2fff\"}");
    }

    #[test]
    fn entries_lie_below_their_directory() {
        assert_eq!(below(&NsPath::root(), b"a/b"), b"/a/b");
        assert_eq!(below(&"/x".parse().expect("a path"), b"a"), b"/x/a");
    }
}
