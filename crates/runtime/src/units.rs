//! Byte sizes and durations as people write them: `64 GiB`, `512MiB`, `30s`, `1h30m`, `never`.
//!
//! Use the modules with serde: `#[serde(with = "headpond_runtime::units::bytes")]` on a `u64`, `units::share` on a [`Share`],
//! `units::duration` on a [`Duration`], `units::duration_or_never` on an `Option<Duration>`.

use std::{fmt, time::Duration};

use serde::de;

/// Powers of 1024 come first: they are the ones written back.
const BYTE_UNITS: [(&str, u64); 17] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("T", 1 << 40),
    ("G", 1 << 30),
    ("M", 1 << 20),
    ("K", 1 << 10),
    ("B", 1),
];

/// Largest first, as they are written back.
const TIME_UNITS: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

/// Why a text is not a size or a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a size.
    #[error("{0:?} is not a size: write a number and a unit, such as \"512 MiB\", \"64 GiB\" or \"10 GB\"")]
    Bytes(String),
    /// Neither a size nor a part of one.
    #[error("{0:?} is neither a size, such as \"64 GiB\", nor a part of it all, such as \"50 %\"")]
    Share(String),
    /// Not a duration.
    #[error("{0:?} is not a duration: write numbers and units, such as \"250ms\", \"30s\", \"5m\" or \"1h30m\"")]
    Duration(String),
    /// Neither a duration nor `never`.
    #[error("{0:?} is neither a duration, such as \"30s\" or \"5m\", nor \"never\"")]
    DurationOrNever(String),
}

/// Bytes, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// Hundredths of all, up to 100.
    Percent(u8),
}

impl Share {
    /// The bytes that it is of `all`.
    #[must_use]
    pub fn of(self, all: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => u64::try_from(u128::from(all) * u128::from(percent) / 100).unwrap_or(all),
        }
    }
}

/// Reads a size ([`parse_bytes`]) or a part: whole hundredths, `50 %` or `50%`.
///
/// # Errors
/// [`UnitError::Share`] for anything else, also for more than `100 %`.
pub fn parse_share(text: &str) -> Result<Share, UnitError> {
    let error = || UnitError::Share(text.to_owned());
    match text.trim().strip_suffix('%') {
        Some(number) => {
            let percent = number.trim_end().parse().ok().filter(|percent| *percent <= 100);
            percent.map(Share::Percent).ok_or_else(error)
        }
        None => parse_bytes(text).map(Share::Bytes).map_err(|_| error()),
    }
}

/// Reads a size in bytes. A number alone means bytes; `K`, `M`, `G`, `T` (also `KiB`, `Ki`, …) are powers of 1024,
/// `KB`, `MB`, `GB`, `TB` powers of 1000; the case of the unit does not matter.
///
/// # Errors
/// [`UnitError::Bytes`] for anything else, also for more than 2^64-1.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError::Bytes(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = (&trimmed[..digits], trimmed[digits..].trim_start());
    let scale = if unit.is_empty() {
        1
    } else {
        BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(error)?.1
    };
    scaled(number, scale).ok_or_else(error)
}

/// Reads a duration: one or more numbers each with a unit of `d`, `h`, `m`, `s`, `ms`, `us`, or `0` alone.
///
/// # Errors
/// [`UnitError::Duration`] for anything else.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let error = || UnitError::Duration(text.to_owned());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(error());
    }
    let mut micros = 0u64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(error)?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let scale = TIME_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?.1;
        micros = scaled(number, scale).and_then(|part| micros.checked_add(part)).ok_or_else(error)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_micros(micros))
}

/// Reads a duration or `never`, which is `None`.
///
/// # Errors
/// [`UnitError::DurationOrNever`] for anything else.
pub fn parse_duration_or_never(text: &str) -> Result<Option<Duration>, UnitError> {
    if text.trim() == "never" {
        return Ok(None);
    }
    parse_duration(text).map(Some).map_err(|_| UnitError::DurationOrNever(text.to_owned()))
}

/// Writes a size so that [`parse_bytes`] reads back exactly the same.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    BYTE_UNITS[..4]
        .iter()
        .find(|(_, scale)| bytes != 0 && bytes.is_multiple_of(*scale))
        .map_or_else(|| format!("{bytes} B"), |(unit, scale)| format!("{} {unit}", bytes / scale))
}

/// Writes a duration so that [`parse_duration`] reads back the same, to the microsecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in TIME_UNITS {
        if micros >= scale {
            text += &format!("{}{unit}", micros / scale);
            micros %= scale;
        }
    }
    text
}

/// `number` (digits with at most one point between them) times `scale`, rounded down.
fn scaled(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 12 {
        return None;
    }
    let tenths = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(scale);
    let fraction = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale) / tenths;
    u64::try_from(whole + fraction).ok()
}

/// Reads a value written as text or, where a number has a meaning, as a number.
struct Written<T> {
    expects: &'static str,
    text: fn(&str) -> Result<T, UnitError>,
    number: fn(u64) -> Option<T>,
}

impl<T> de::Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expects)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.text)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.number)(number).ok_or_else(|| E::invalid_type(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let unsigned = u64::try_from(number).ok().and_then(self.number);
        unsigned.ok_or_else(|| E::invalid_type(de::Unexpected::Signed(number), &self))
    }
}

/// A `u64` of bytes, written as `64 GiB`; a number means bytes.
pub mod bytes {
    use serde::{Deserializer, Serializer};

    /// Writes the value as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_bytes(*value))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// A text that says what is expected.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let expects = "a size such as \"64 GiB\"";
        deserializer.deserialize_any(super::Written { expects, text: super::parse_bytes, number: Some })
    }
}

/// A [`Share`], written as `64 GiB` or `50 %`; a number means bytes.
pub mod share {
    use serde::{Deserializer, Serializer};

    use super::Share;

    /// Writes the value as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Share, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Share::Bytes(bytes) => serializer.serialize_str(&super::format_bytes(*bytes)),
            Share::Percent(percent) => serializer.collect_str(&format_args!("{percent} %")),
        }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// A text that says what is expected.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Share, D::Error> {
        let expects = "a size such as \"64 GiB\", or a part such as \"50 %\"";
        let number = |number| Some(Share::Bytes(number));
        deserializer.deserialize_any(super::Written { expects, text: super::parse_share, number })
    }
}

/// A [`Duration`], written as `30s`; a number is refused (unless 0), since it does not say its unit.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Writes the value as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*value))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// A text that says what is expected.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let number = |number| (number == 0).then_some(Duration::ZERO);
        let expects = "a duration such as \"30s\"";
        deserializer.deserialize_any(super::Written { expects, text: super::parse_duration, number })
    }
}

/// An `Option<Duration>`, written as `30s` or, for `None`, `never`.
pub mod duration_or_never {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    /// Writes the value as text.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&value.map_or_else(|| "never".to_owned(), super::format_duration))
    }

    /// Reads the value.
    ///
    /// # Errors
    /// A text that says what is expected.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let number = |number| (number == 0).then_some(Some(Duration::ZERO));
        let expects = "a duration such as \"30s\", or \"never\"";
        deserializer.deserialize_any(super::Written { expects, text: super::parse_duration_or_never, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17 B", 17),
            ("64 GiB", 64 << 30),
            ("512MiB", 512 << 20),
            ("512mib", 512 << 20),
            ("1.5 KiB", 1536),
            ("10 GB", 10_000_000_000),
            ("2K", 2048),
            ("3Gi", 3 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "1.2.3 K", "-1", "1 parsec", "99999999999 TiB", "1.", ".5K"] {
            assert_eq!(parse_bytes(text), Err(UnitError::Bytes(text.to_owned())));
        }
    }

    #[test]
    fn shares_are_sizes_or_parts() {
        assert_eq!(parse_share("50 %").expect("a part").of(1 << 40), 1 << 39);
        assert_eq!(parse_share("100%").expect("a part").of(u64::MAX), u64::MAX);
        assert_eq!(parse_share("3 GiB").expect("a size").of(7), 3 << 30);
        for text in ["101 %", "%", "-1 %", "1.5 %", "half"] {
            assert_eq!(parse_share(text), Err(UnitError::Share(text.to_owned())));
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [("0", 0), ("30s", 30_000), ("5m", 300_000), ("1h 30m", 5_400_000), ("0.25s", 250)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "30", "s", "1 year", "-1s", "1h30"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_duration_or_never("never"), Ok(None));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
        for micros in [0, 1, 999, 1_500_000, 5_400_000_000, 90_061_001_001] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_bytes(64 << 30), "64 GiB");
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m");
    }
}
