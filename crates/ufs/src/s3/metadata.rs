//! What objects say of themselves in the metadata of users. A copy within the store takes it along.

use std::collections::HashMap;

use headpond_types::Timestamp;

use crate::Label;

/// Which content an object is: 32 hexadecimal digits.
pub(super) const CONTENT: &str = "headpond-content";

/// Type and permissions of the file, octal with a zero before it: s3fs and geesefs take such a number for octal, and rclone takes every number for
/// it. The decimal number that s3fs itself writes would be another mode to rclone.
const MODE: &str = "mode";

/// When the file was modified last: seconds since 1970, with all nine digits behind the point, as s3fs counts them; rclone, whose key it is, reads any number of
/// them.
const MTIME: &str = "mtime";

/// The bits of the type of a regular file, as `stat` has them.
const REGULAR: u32 = 0o100_000;

/// The metadata of an object.
pub(super) fn metadata(label: Label) -> HashMap<String, String> {
    let Label { content, mode, mtime } = label;
    let said = [
        (CONTENT, content.map(|content| content.to_string())),
        (MODE, mode.map(|mode| format!("0{:o}", REGULAR | mode & 0o7777))),
        (MTIME, mtime.map(seconds)),
    ];
    said.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

/// A time in seconds, exactly. Of one before 1970 the sign stands before the distance.
fn seconds(time: Timestamp) -> String {
    const SECOND: u64 = 1_000_000_000;
    let (sign, distance) = (if time.0 < 0 { "-" } else { "" }, time.0.unsigned_abs());
    format!("{sign}{}.{:09}", distance / SECOND, distance % SECOND)
}

#[cfg(test)]
mod tests {
    use headpond_types::ContentId;

    use super::*;

    #[test]
    fn what_is_known_is_said_as_other_programs_read_it() {
        assert!(metadata(Label::default()).is_empty());
        let label =
            Label { content: Some(ContentId(7)), mode: Some(0o644), mtime: Some(Timestamp(1_700_000_000_500_000_000)) };
        let said = metadata(label);
        assert_eq!(said[CONTENT], "00000000000000000000000000000007");
        assert_eq!((&*said[MODE], &*said[MTIME]), ("0100644", "1700000000.500000000"));
        assert_eq!(metadata(Label { mode: Some(0o104_755), ..Label::default() })[MODE], "0104755");
        assert_eq!(metadata(Label { mode: Some(0), ..Label::default() })[MODE], "0100000");
    }

    #[test]
    fn seconds_are_exact() {
        for (time, said) in [
            (0, "0.000000000"),
            (1, "0.000000001"),
            (-1, "-0.000000001"),
            (-1_500_000_000, "-1.500000000"),
            (i64::MAX, "9223372036.854775807"),
            (i64::MIN, "-9223372036.854775808"),
        ] {
            assert_eq!(seconds(Timestamp(time)), said);
        }
    }
}
