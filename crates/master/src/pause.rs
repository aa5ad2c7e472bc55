//! How long something is left alone that has failed.

use std::time::Duration;

/// After the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before the next try, after one that came behind `earlier` failures.
pub(crate) fn after(earlier: u32) -> Duration {
    (FIRST * 2_u32.saturating_pow(earlier.min(8))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end() {
        let pauses: Vec<_> = (0..8).map(|earlier| after(earlier).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(after(u32::MAX), LONGEST);
    }
}
