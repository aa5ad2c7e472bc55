//! What left the small queue lately: fingerprints in a fixed table, as section 4.2 of the S3-FIFO paper proposes.
//!
//! An entry is a fingerprint and the count of insertions at its time; it is out of date when the table has taken in as many
//! others as it has places. Two units may share a fingerprint: then one of them enters the main queue undeserved, no more.

/// Ways a fingerprint can be placed.
const WAYS: usize = 4;
/// One place per this many bytes of capacity: two for each page of a full directory.
const BYTES_PER_PLACE: u64 = 512 << 10;

#[derive(Debug)]
pub(crate) struct Ghost {
    places: Box<[Place]>,
    now: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// 0: empty.
    fingerprint: u32,
    at: u32,
}

impl Ghost {
    /// A table for a directory of `capacity` bytes: 8 bytes a place, touched only as they are used.
    pub(crate) fn new(capacity: u64) -> Self {
        let places = (capacity / BYTES_PER_PLACE).clamp(1 << 10, 1 << 23).next_multiple_of(WAYS as u64);
        let places = usize::try_from(places).expect("at most 2^23");
        Self { places: vec![Place::default(); places].into_boxed_slice(), now: 0 }
    }

    pub(crate) fn remember(&mut self, fingerprint: u32) {
        let now = self.now.wrapping_add(1);
        self.now = now;
        let place = self.bucket(fingerprint).iter_mut().max_by_key(|place| match place.fingerprint {
            0 => u32::MAX,
            _ => now.wrapping_sub(place.at),
        });
        if let Some(place) = place {
            *place = Place { fingerprint: fingerprint.max(1), at: now };
        }
    }

    /// Whether the unit left lately; it is then forgotten.
    pub(crate) fn take(&mut self, fingerprint: u32) -> bool {
        let (now, lifetime) = (self.now, self.places.len());
        let found = self.bucket(fingerprint).iter_mut().find(|place| place.fingerprint == fingerprint.max(1));
        found.is_some_and(|place| std::mem::take(place).is_recent(now, lifetime))
    }

    fn bucket(&mut self, fingerprint: u32) -> &mut [Place] {
        let start = fingerprint as usize % (self.places.len() / WAYS) * WAYS;
        &mut self.places[start..start + WAYS]
    }
}

impl Place {
    const fn is_recent(self, now: u32, lifetime: usize) -> bool {
        (now.wrapping_sub(self.at) as usize) < lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_what_left_lately_once() {
        let mut ghost = Ghost::new(0);
        ghost.remember(7);
        assert!(ghost.take(7));
        assert!(!ghost.take(7));
    }

    #[test]
    fn forgets_after_as_many_others_as_it_has_places() {
        let mut ghost = Ghost::new(0);
        ghost.remember(7);
        for other in 0..2048_u32 {
            ghost.remember(other.wrapping_mul(0x9e37_79b9) | 1);
        }
        assert!(!ghost.take(7));
    }
}
