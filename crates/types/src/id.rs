//! Identifiers. Numeric ids are allocated in order by the namespace and never reused.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

numeric_id!(
    /// Identity of a file or directory in the namespace; also the kernel's node id and `st_ino`.
    InodeId(u64)
);
numeric_id!(
    /// Identity of a mount: a namespace path bound to an under store.
    MountId(u32)
);
numeric_id!(
    /// Identity of a worker, given at its first registration and kept across its restarts.
    WorkerId(u32)
);
numeric_id!(
    /// Generation of a lease, ring or term; a receiver refuses one older than it has seen.
    Epoch(u64)
);

impl InodeId {
    /// The root of the namespace, the number that FUSE expects for a mount's root.
    pub const ROOT: Self = Self(1);
}

/// Identity of the bytes of one version of one file. It never changes meaning: a changed file gets another.
///
/// For an object of an under store it is computed from what identifies those bytes there
/// ([`ContentId::of_object`]), so pages stay valid when masters are rebuilt, and one object mounted twice is cached once.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId(pub u128);

impl ContentId {
    /// The id of the version `version` (ETag, or what the driver uses in its place) of `key` in the store `store`.
    ///
    /// `store` names the store itself (endpoint and bucket, or a directory), without credentials or mount options.
    /// The id is the first 16 bytes of SHA-256 over the length-prefixed fields: 2^64 contents before a collision is likely.
    #[must_use]
    pub fn of_object(store: &str, key: &[u8], version: &str, length: u64) -> Self {
        let mut hash = Sha256::new();
        for field in [store.as_bytes(), key, version.as_bytes()] {
            hash.update((field.len() as u64).to_be_bytes());
            hash.update(field);
        }
        hash.update(length.to_be_bytes());
        let digest = hash.finalize();
        let (head, _) = digest.split_first_chunk::<16>().expect("SHA-256 gives 32 bytes");
        Self(u128::from_be_bytes(*head))
    }

    /// High and low halves, as they travel in messages.
    #[must_use]
    pub const fn halves(self) -> (u64, u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of 128 bits")]
        ((self.0 >> 64) as u64, self.0 as u64)
    }

    /// The id of the two halves that [`ContentId::halves`] gave.
    #[must_use]
    pub const fn from_halves(high: u64, low: u64) -> Self {
        Self(((high as u128) << 64) | low as u128)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

/// A text is not the 32 hexadecimal digits of a [`ContentId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a content id: expected 32 hexadecimal digits")]
pub struct ParseContentIdError(String);

impl FromStr for ContentId {
    type Err = ParseContentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseContentIdError(text.to_owned()))?;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

/// Identity of one mutation asked for by a client: repeated, it is answered as it was the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u128);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_id_depends_on_every_part_of_an_objects_identity() {
        let base = ContentId::of_object("s3://b", b"a/b", "e1", 3);
        assert_eq!(base, ContentId::of_object("s3://b", b"a/b", "e1", 3));
        for other in [
            ContentId::of_object("s3://c", b"a/b", "e1", 3),
            ContentId::of_object("s3://b", b"a/c", "e1", 3),
            ContentId::of_object("s3://b", b"a/b", "e2", 3),
            ContentId::of_object("s3://b", b"a/b", "e1", 4),
            ContentId::of_object("s3://ba", b"/b", "e1", 3),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_content_id_survives_text_and_halves() {
        let id = ContentId::of_object("s3://b", b"k", "e", 1);
        assert_eq!(id.to_string().parse::<ContentId>(), Ok(id));
        let (high, low) = id.halves();
        assert_eq!(ContentId::from_halves(high, low), id);
        assert!("xyz".parse::<ContentId>().is_err());
    }
}
