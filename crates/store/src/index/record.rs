//! Encoding of index records and of the log's header: 40 bytes each, little-endian, the last four a CRC32C.

use headpond_types::{ContentId, PAGE_SIZE};

pub(crate) const RECORD_LEN: usize = 40;
/// Version of the layout of a cache directory: index and files. A directory of a later one is refused.
pub(crate) const VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"hpondidx";
const CRC_AT: usize = RECORD_LEN - 4;

/// A fact about the directory. Slots number the contents of a directory, to keep page records short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// The slot holds this content from now on; the file's name carries the generation.
    Content { slot: u32, id: ContentId, length: u64, generation: u32 },
    /// The page is wholly in the file.
    Page { slot: u32, page: u32, crc: u32 },
    /// The page is no longer to be relied on.
    PageRemoved { slot: u32, page: u32 },
    /// The slot holds nothing.
    ContentRemoved { slot: u32 },
    /// As `Content`; and the file is the only place of its bytes, as it says itself.
    DirtyContent { slot: u32, id: ContentId, length: u64, generation: u32 },
    /// The content in the slot is not needed any more.
    Clean { slot: u32 },
    /// Descriptors of the content's file were handed out, and may be open in other processes until the machine restarts.
    Lent { slot: u32 },
}

/// The start of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Valid { salt: u64 },
    Newer(u32),
    Damaged,
}

impl Record {
    pub(crate) fn encode(&self, salt: u64, position: u64) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        match *self {
            Self::Content { slot, id, length, generation } | Self::DirtyContent { slot, id, length, generation } => {
                put(&mut out, 0, &[if matches!(self, Self::Content { .. }) { 1 } else { 6 }]);
                put(&mut out, 4, &slot.to_le_bytes());
                put(&mut out, 8, &id.0.to_le_bytes());
                put(&mut out, 24, &length.to_le_bytes());
                put(&mut out, 32, &generation.to_le_bytes());
            }
            Self::Page { slot, page, crc } => {
                put(&mut out, 0, &[2]);
                put(&mut out, 4, &slot.to_le_bytes());
                put(&mut out, 8, &page.to_le_bytes());
                put(&mut out, 12, &crc.to_le_bytes());
            }
            Self::PageRemoved { slot, page } => {
                put(&mut out, 0, &[3]);
                put(&mut out, 4, &slot.to_le_bytes());
                put(&mut out, 8, &page.to_le_bytes());
            }
            Self::ContentRemoved { slot } => {
                put(&mut out, 0, &[4]);
                put(&mut out, 4, &slot.to_le_bytes());
            }
            Self::Lent { slot } => {
                put(&mut out, 0, &[5]);
                put(&mut out, 4, &slot.to_le_bytes());
            }
            Self::Clean { slot } => {
                put(&mut out, 0, &[7]);
                put(&mut out, 4, &slot.to_le_bytes());
            }
        }
        let crc = checksum(&out, salt, position);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    /// The record in `bytes`; `None` when it is torn, from elsewhere, or of no known kind.
    pub(crate) fn decode(bytes: &[u8; RECORD_LEN], salt: u64, position: u64) -> Option<Self> {
        if checksum(bytes, salt, position) != u32_at(bytes, CRC_AT) {
            return None;
        }
        let slot = u32_at(bytes, 4);
        let id = ContentId(u128::from_le_bytes(array_at(bytes, 8)));
        let (length, generation) = (u64::from_le_bytes(array_at(bytes, 24)), u32_at(bytes, 32));
        match bytes[0] {
            1 => Some(Self::Content { slot, id, length, generation }),
            2 => Some(Self::Page { slot, page: u32_at(bytes, 8), crc: u32_at(bytes, 12) }),
            3 => Some(Self::PageRemoved { slot, page: u32_at(bytes, 8) }),
            4 => Some(Self::ContentRemoved { slot }),
            5 => Some(Self::Lent { slot }),
            6 => Some(Self::DirtyContent { slot, id, length, generation }),
            7 => Some(Self::Clean { slot }),
            _ => None,
        }
    }
}

impl Header {
    pub(crate) fn encode(salt: u64) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 16, &salt.to_le_bytes());
        put(&mut out, 24, &PAGE_SIZE.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; RECORD_LEN]) -> Self {
        let version = u32_at(bytes, 8);
        if array_at::<8>(bytes, 0) != MAGIC || crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Self::Damaged;
        }
        if version > VERSION {
            return Self::Newer(version);
        }
        // Pages of another size, or of a layout that came before the first release, are of no use to this program.
        if version < VERSION || u64::from_le_bytes(array_at(bytes, 24)) != PAGE_SIZE {
            return Self::Damaged;
        }
        Self::Valid { salt: u64::from_le_bytes(array_at(bytes, 16)) }
    }
}

fn checksum(bytes: &[u8; RECORD_LEN], salt: u64, position: u64) -> u32 {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&salt.to_le_bytes());
    seed[8..].copy_from_slice(&position.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), &bytes[..CRC_AT])
}

fn put(out: &mut [u8; RECORD_LEN], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn array_at<const N: usize>(bytes: &[u8; RECORD_LEN], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

fn u32_at(bytes: &[u8; RECORD_LEN], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Record; 7] = [
        Record::Content { slot: 7, id: ContentId(u128::MAX - 5), length: 1 << 40, generation: 9 },
        Record::Page { slot: 7, page: 3, crc: 0xdead_beef },
        Record::PageRemoved { slot: 7, page: 3 },
        Record::ContentRemoved { slot: u32::MAX },
        Record::Lent { slot: 7 },
        Record::DirtyContent { slot: 7, id: ContentId(u128::MAX - 5), length: 1 << 40, generation: 9 },
        Record::Clean { slot: 7 },
    ];

    #[test]
    fn records_survive_encoding() {
        for record in ALL {
            assert_eq!(Record::decode(&record.encode(11, 5), 11, 5), Some(record));
        }
    }

    #[test]
    fn any_flipped_bit_wrong_place_or_other_log_is_seen() {
        for record in ALL {
            let good = record.encode(11, 5);
            assert_eq!(Record::decode(&good, 11, 6), None);
            assert_eq!(Record::decode(&good, 12, 5), None);
            for bit in 0..RECORD_LEN * 8 {
                let mut bad = good;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::decode(&bad, 11, 5), None, "bit {bit} of {record:?}");
            }
        }
        assert_eq!(Record::decode(&[0; RECORD_LEN], 0, 0), None);
    }

    #[test]
    fn a_header_of_a_newer_version_is_told_from_a_damaged_one() {
        let good = Header::encode(3);
        assert_eq!(Header::decode(&good), Header::Valid { salt: 3 });
        let mut newer = good;
        newer[8] += 1;
        let crc = crc32c::crc32c(&newer[..CRC_AT]);
        put(&mut newer, CRC_AT, &crc.to_le_bytes());
        assert_eq!(Header::decode(&newer), Header::Newer(VERSION + 1));
        newer[9] ^= 1;
        assert_eq!(Header::decode(&newer), Header::Damaged);
    }
}
