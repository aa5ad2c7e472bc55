//! What a file says that its bytes are, when they are nowhere else: an extended attribute of the file.
//!
//! So one `fsync` makes bytes and claim durable together, the claim goes wherever the file is renamed to, and neither a lost index nor a
//! damaged one costs bytes that were acknowledged. It relies on a new file's name being durable with its first `fsync`, as on ext4, XFS
//! and btrfs.
//!
//! A file may claim several contents: which of the last ones counts is decided elsewhere, perhaps while this process is dead. Its bytes are a
//! state of each that is not older than the claim.

use std::{fs::File, io};

use headpond_types::ContentId;
use rustix::{
    fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr},
    io::Errno,
};

/// A version, then 24 bytes for each claim.
const NAME: &str = "user.headpond.dirty";
const VERSION: u8 = 1;

/// Claims kept: one that is committed, and those of which the answer was lost since.
const KEPT: usize = 4;

/// A content whose first bytes a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) id: ContentId,
    pub(crate) length: u64,
}

/// The claims of one file, the oldest first, each content once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims(Vec<Claim>);

impl Claims {
    /// One only.
    pub(crate) fn single(claim: Claim) -> Self {
        Self(vec![claim])
    }

    /// What `file` says; nothing if it says nothing that can be understood.
    pub(crate) fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; 1 + 24 * KEPT];
        match fgetxattr(file, NAME, &mut bytes) {
            Ok(length) => Ok(Self::decode(&bytes[..length]).unwrap_or_default()),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Has `file` say it; durable with its next `fsync`.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        if self.0.is_empty() {
            return match fremovexattr(file, NAME) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        Ok(fsetxattr(file, NAME, &self.encode(), XattrFlags::empty())?)
    }

    /// Adds a claim; the oldest goes when there are too many.
    pub(crate) fn add(&mut self, claim: Claim) {
        self.0.retain(|known| known.id != claim.id);
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(claim);
    }

    pub(crate) fn of(&self, id: ContentId) -> Option<Claim> {
        self.0.iter().copied().find(|claim| claim.id == id)
    }

    pub(crate) fn as_slice(&self) -> &[Claim] {
        &self.0
    }

    fn encode(&self) -> Vec<u8> {
        let claims =
            self.0.iter().flat_map(|claim| claim.id.0.to_le_bytes().into_iter().chain(claim.length.to_le_bytes()));
        std::iter::once(VERSION).chain(claims).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (VERSION, claims) = bytes.split_first().map(|(version, rest)| (*version, rest))? else { return None };
        let (claims, []) = claims.as_chunks::<24>() else { return None };
        let claim = |bytes: &[u8; 24]| {
            let (id, length) = (bytes.first_chunk()?, bytes.last_chunk()?);
            Some(Claim { id: ContentId(u128::from_le_bytes(*id)), length: u64::from_le_bytes(*length) })
        };
        claims.iter().map(claim).collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_survive_and_the_oldest_make_way() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Claims::read(&file).unwrap(), Claims::default());
        let mut claims = Claims::default();
        claims.write(&file).unwrap();
        for n in 0..6 {
            claims.add(Claim { id: ContentId(u128::MAX - n), length: 1 << (40 + n) });
            claims.write(&file).unwrap();
            assert_eq!(Claims::read(&file).unwrap(), claims);
        }
        let ids: Vec<_> = claims.as_slice().iter().map(|claim| u128::MAX - claim.id.0).collect();
        assert_eq!(ids, [2, 3, 4, 5]);
        claims.add(Claim { id: ContentId(u128::MAX - 3), length: 7 });
        assert_eq!(claims.as_slice().len(), 4, "a content is claimed once");
        assert_eq!(claims.of(ContentId(u128::MAX - 3)).unwrap().length, 7);
        Claims::default().write(&file).unwrap();
        assert_eq!(Claims::read(&file).unwrap(), Claims::default());
    }

    #[test]
    fn what_cannot_be_understood_claims_nothing() {
        let mut claims = Claims::default();
        claims.add(Claim { id: ContentId(1), length: 2 });
        let good = claims.encode();
        assert_eq!(Claims::decode(&good), Some(claims));
        assert_eq!(Claims::decode(&good[..20]), None);
        assert_eq!(Claims::decode(&[&[VERSION + 1], &good[1..]].concat()), None);
        assert_eq!(Claims::decode(&[]), None);
    }
}
