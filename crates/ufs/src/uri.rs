//! URIs of under stores.

use std::{
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{Key, UfsError, UfsErrorKind};

/// Which driver serves a [`StoreUri`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `s3://bucket/prefix`
    S3,
    /// `file:///dir`
    File,
    /// `memory://name/prefix`
    Memory,
}

impl Scheme {
    /// As it stands before `://`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::File => "file",
            Self::Memory => "memory",
        }
    }
}

/// Names a store and a prefix in it. Bytes are taken literally: nothing is percent-decoded. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreUri {
    scheme: Scheme,
    root: String,
    prefix: Key,
}

const FORMS: &str = "write s3://bucket/prefix, file:///directory or memory://name";

impl StoreUri {
    /// Reads a URI. A prefix loses its leading slashes and gains a trailing one; a directory loses doubled and trailing slashes.
    ///
    /// # Errors
    /// `Invalid`, saying what is wrong and which form is right.
    pub fn parse(text: &str) -> Result<Self, UfsError> {
        let invalid = |why: String| UfsError::new(UfsErrorKind::Invalid, format!("store URI {text:?} {why}"));
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid(format!("has no scheme: {FORMS}")));
        };
        if scheme != "file" && rest.split('/').next().is_some_and(|root| root.contains('@')) {
            // Not shown: what stands before the @ is most likely a secret.
            let message = "a store URI with an @ is refused, and so are keys in it: write s3://bucket/prefix, and give keys by \
                           the environment or the option credentials";
            return Err(UfsError::new(UfsErrorKind::Invalid, message));
        }
        let scheme = match scheme {
            "s3" => Scheme::S3,
            "file" => Scheme::File,
            "memory" => Scheme::Memory,
            "s3a" | "s3n" => return Err(invalid(format!("has scheme {scheme:?}: write it as s3://{rest}"))),
            other => return Err(invalid(format!("has unknown scheme {other:?}: {FORMS}"))),
        };
        if scheme == Scheme::File {
            if !rest.starts_with('/') {
                return Err(invalid(format!("is not absolute: write file:///{rest} with the whole path")));
            }
            let directory = normal_directory(rest).ok_or_else(|| {
                invalid("has \"..\" or a NUL byte in its path: write the path of the directory itself".to_owned())
            })?;
            return Ok(Self { scheme, root: directory, prefix: Key::default() });
        }
        let (root, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let what = if scheme == Scheme::S3 { "bucket" } else { "store" };
        if root.is_empty() {
            return Err(invalid(format!("names no {what}: write {}://{what}/prefix", scheme.name())));
        }
        if let Some(bad) = root.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')) {
            return Err(invalid(format!(
                "has {bad:?} in the name of its {what}: use letters, digits, \".\", \"-\" and \"_\"; \
                 endpoint and credentials are options"
            )));
        }
        let prefix = prefix.trim_start_matches('/');
        let prefix = match prefix {
            "" => String::new(),
            ended if ended.ends_with('/') => ended.to_owned(),
            open => format!("{open}/"),
        };
        Ok(Self { scheme, root: root.to_owned(), prefix: prefix.into() })
    }

    /// The URI of a local directory.
    ///
    /// # Errors
    /// `Invalid` when the path is relative, has `..` in it or is not UTF-8.
    pub fn of_directory(directory: &Path) -> Result<Self, UfsError> {
        let text = directory.to_str().ok_or_else(|| {
            UfsError::new(UfsErrorKind::Invalid, format!("path {} is not UTF-8: rename it", directory.display()))
        })?;
        Self::parse(&format!("file://{text}"))
    }

    /// Which driver serves it.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The bucket, the absolute directory, or the name of a store in memory.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The root as a path; only sensible for [`Scheme::File`].
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(self.root.as_bytes()))
    }

    /// The prefix: empty, or ending in `/`.
    #[must_use]
    pub const fn prefix(&self) -> &Key {
        &self.prefix
    }
}

fn normal_directory(path: &str) -> Option<String> {
    let mut normal = String::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            part if part.contains('\0') => return None,
            part => {
                normal.push('/');
                normal.push_str(part);
            }
        }
    }
    if normal.is_empty() {
        normal.push('/');
    }
    Some(normal)
}

impl FromStr for StoreUri {
    type Err = UfsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.root)?;
        if self.prefix.as_bytes().is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_uri_are_refused_and_never_shown() {
        for text in ["s3://id:hunter2@bucket/x", "s3://hunter2@bucket", "s3a://id:hunter2@bucket", "gs://id:hunter2@b"]
        {
            let error = StoreUri::parse(text).expect_err("keys").to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(StoreUri::parse("s3://bucket/a@b").is_ok(), "a prefix may have one");
    }

    #[test]
    fn uris_are_normalised() {
        for (text, root, prefix, shown) in [
            ("s3://b", "b", "", "s3://b"),
            ("s3://b/", "b", "", "s3://b"),
            ("s3://b//", "b", "", "s3://b"),
            ("s3://b/p", "b", "p/", "s3://b/p/"),
            ("s3://b/p/q/", "b", "p/q/", "s3://b/p/q/"),
            ("s3://b/a//b%20 c", "b", "a//b%20 c/", "s3://b/a//b%20 c/"),
            ("file:///", "/", "", "file:///"),
            ("file:///data//lake/./", "/data/lake", "", "file:///data/lake"),
            ("memory://m/p", "m", "p/", "memory://m/p/"),
        ] {
            let uri = StoreUri::parse(text).expect(text);
            assert_eq!((uri.root(), uri.prefix()), (root, &Key::from(prefix)), "{text}");
            assert_eq!(uri.to_string(), shown);
            assert_eq!(StoreUri::parse(shown).expect(shown), uri);
        }
    }

    #[test]
    fn bad_uris_name_the_remedy() {
        for (text, remedy) in [
            ("./lake", "file:///directory"),
            ("s3:///key", "s3://bucket/prefix"),
            ("s3a://b/k", "s3://b/k"),
            ("gopher://b", "s3://bucket/prefix"),
            ("file://lake", "file:///lake"),
            ("file:///a/../b", "directory itself"),
            ("memory://", "memory://store"),
            ("s3://key:secret@host/b", "the option credentials"),
        ] {
            let error = StoreUri::parse(text).expect_err(text);
            assert_eq!(error.kind(), UfsErrorKind::Invalid);
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}
