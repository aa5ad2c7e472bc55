//! Names of directory entries and absolute paths of the namespace, as bytes: an under store need not speak UTF-8.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name of a directory entry in bytes, as in POSIX `NAME_MAX`.
const NAME_MAX: usize = 255;

/// Why bytes are not a [`Name`] or an [`NsPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The name is empty.
    #[error("a name may not be empty")]
    Empty,
    /// The name is `.` or `..`, which mean places and cannot be stored.
    #[error("a name may not be \".\" or \"..\"")]
    Dots,
    /// The name contains `/` or a NUL byte.
    #[error("a name may not contain \"/\" or a NUL byte")]
    Separator,
    /// The name has more than 255 bytes.
    #[error("a name may not be longer than 255 bytes, this one has {0}")]
    TooLong(usize),
    /// The path does not start with `/`.
    #[error("path {0:?} is not absolute: write it as \"/{0}\"")]
    Relative(String),
}

/// The name of a directory entry: 1 to 255 bytes without `/` or NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks `bytes` and takes them as a name.
    ///
    /// # Errors
    /// [`PathError`] when they are not one.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        match bytes {
            [] => Err(PathError::Empty),
            b"." | b".." => Err(PathError::Dots),
            _ if bytes.iter().any(|byte| matches!(byte, b'/' | 0)) => Err(PathError::Separator),
            _ if bytes.len() > NAME_MAX => Err(PathError::TooLong(bytes.len())),
            _ => Ok(Self(bytes.into())),
        }
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// An absolute, normal path of the namespace: `/` or `/name/name…`, without `.`, `..`, doubled or trailing slashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsPath(Vec<Name>);

impl NsPath {
    /// The root, `/`.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// Reads a path as users write it: doubled and trailing slashes and `.` are dropped, `..` steps up and stays at the root.
    ///
    /// # Errors
    /// [`PathError::Relative`] without a leading slash, or what is wrong with a name in it.
    pub fn parse(bytes: impl AsRef<[u8]>) -> Result<Self, PathError> {
        let bytes = bytes.as_ref();
        let Some(rest) = bytes.strip_prefix(b"/") else {
            return Err(PathError::Relative(String::from_utf8_lossy(bytes).into_owned()));
        };
        let mut names = Vec::new();
        for part in rest.split(|byte| *byte == b'/') {
            match part {
                [] | b"." => {}
                b".." => {
                    names.pop();
                }
                name => names.push(Name::new(name)?),
            }
        }
        Ok(Self(names))
    }

    /// The names from the root down; empty for the root.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path one name longer.
    #[must_use]
    pub fn join(&self, name: Name) -> Self {
        let mut names = self.0.clone();
        names.push(name);
        Self(names)
    }

    /// The directory above and the last name, or `None` for the root.
    #[must_use]
    pub fn split_last(&self) -> Option<(Self, &Name)> {
        let (last, above) = self.0.split_last()?;
        Some((Self(above.to_vec()), last))
    }

    /// Whether `self` is `other` or lies below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The path as bytes, with a leading slash.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.0.is_empty() {
            return b"/".to_vec();
        }
        let mut bytes = Vec::new();
        for name in &self.0 {
            bytes.push(b'/');
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes
    }
}

impl FromStr for NsPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for NsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.to_bytes()).fmt(f)
    }
}

impl fmt::Debug for NsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.to_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (text, normal) in [("/", "/"), ("//a//b/", "/a/b"), ("/a/./b/../c", "/a/c"), ("/../..", "/")] {
            assert_eq!(text.parse::<NsPath>().map(|path| path.to_string()), Ok(normal.to_owned()));
        }
        assert_eq!("a/b".parse::<NsPath>(), Err(PathError::Relative("a/b".to_owned())));
        assert_eq!(NsPath::parse([b"/".as_slice(), &[b'x'; 256]].concat()), Err(PathError::TooLong(256)));
    }

    #[test]
    fn a_name_keeps_bytes_that_are_not_text() {
        let name = Name::new(b"a\xff\nb").expect("a legal name");
        assert_eq!(name.as_bytes(), b"a\xff\nb");
        assert_eq!(Name::new("a/b"), Err(PathError::Separator));
        assert_eq!(Name::new(".."), Err(PathError::Dots));
        assert_eq!(Name::new(""), Err(PathError::Empty));
    }
}
