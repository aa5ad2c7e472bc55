//! Points in time as text.

use std::{str::FromStr, time::SystemTime};

use headpond_runtime::{Clock as _, SystemClock, units};
use headpond_types::{Error, ErrorKind, Result, Timestamp};
use jiff::{civil, tz::TimeZone};

/// The time in RFC 3339, in UTC, to the nanosecond where it has one.
pub(crate) fn moment(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(time.0.into()).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

/// Reads a time: how long ago (`2h`), a date (`2026-01-31`), a local date and time, or RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp> {
    if let Ok(ago) = units::parse_duration(text) {
        let ago = i64::try_from(ago.as_nanos()).unwrap_or(i64::MAX);
        return Ok(Timestamp(SystemClock.now().0.saturating_sub(ago)));
    }
    let local = |date: civil::DateTime| date.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp());
    let time =
        jiff::Timestamp::from_str(text).or_else(|_| civil::DateTime::from_str(text).and_then(local)).map_err(|_| {
            let message =
                format!("{text:?} is not a time: write how long ago (\"2h\"), a date (\"2026-01-31\") or RFC 3339");
            Error::new(ErrorKind::InvalidArgument, message)
        })?;
    Ok(SystemTime::from(time).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_and_read_back() {
        let time = Timestamp(1_700_000_000_123_000_000);
        assert_eq!(moment(time), "2023-11-14T22:13:20.123Z");
        assert_eq!(parse_moment(&moment(time)).expect("valid"), time);
        assert!(parse_moment("2h").expect("valid") < SystemClock.now());
        assert!(parse_moment("2026-01-31").is_ok());
        assert!(parse_moment("yesterday").is_err());
    }
}
