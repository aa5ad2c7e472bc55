//! How a record lies in a log file.
//!
//! A frame is `[length u32][crc32c u32][sequence u64][durable u64][body][zeros up to a multiple of 8]`, little-endian. The checksum covers all
//! but itself and the zeros. Frames are numbered without gaps over all files. `durable` is the last frame that was known to be on disk
//! when this one was written: a later frame that names a damaged one as durable proves that it was whole once, so it was
//! damaged since, while one that does not is of the same write and both may be lost to a power cut.

/// Bytes before the body.
pub(crate) const HEADER: usize = 24;

const ALIGN: usize = 8;

/// A frame as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The frame at the start of `bytes`; `None` when there is no whole one.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let length = u32::from_le_bytes(*bytes.first_chunk()?);
        let crc = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
        let sequence = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        let durable = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        if length == 0 {
            return None;
        }
        let body = bytes.get(HEADER..HEADER.checked_add(usize::try_from(length).ok()?)?)?;
        let found = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..HEADER + body.len()]);
        (found == crc).then_some(Self { sequence, durable, body })
    }

    /// Bytes that the frame takes in the file.
    pub(crate) const fn size(&self) -> usize {
        (HEADER + self.body.len()).next_multiple_of(ALIGN)
    }
}

/// Appends a frame around the body that `write` appends. `out` begins where a frame may begin.
pub(crate) fn put(out: &mut Vec<u8>, sequence: u64, durable: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let length = u32::try_from(out.len() - start - HEADER).expect("records are bounded far below 4 GiB");
    assert!(length > 0, "a frame without a body would read as the end");
    let frame = &mut out[start..];
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&sequence.to_le_bytes());
    frame[16..24].copy_from_slice(&durable.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..4]), &frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    out.resize(start + (HEADER + length as usize).next_multiple_of(ALIGN), 0);
}

/// Whether a whole frame numbered after `sequence` that knows `sequence` to be durable lies anywhere in `bytes`, which begin where a
/// frame may begin.
pub(crate) fn proves_durable(bytes: &[u8], sequence: u64) -> bool {
    (0..bytes.len()).step_by(ALIGN).any(|at| {
        let rest = &bytes[at..];
        // The numbers are looked at first: a checksum over every length that happens to stand somewhere would take for ever.
        let number = |range: std::ops::Range<usize>| {
            rest.get(range).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
        };
        let (found, durable) = (number(8..16), number(16..24));
        found > sequence && durable >= sequence && durable < found && Frame::read(rest).is_some()
    })
}
