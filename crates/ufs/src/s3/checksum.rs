//! Bodies whose checksum is signed in their place: a CRC32C costs a third of a SHA-256 where processors have instructions for both, here and at the
//! store.
//!
//! The store compares it with what arrives and keeps it with the object. Of a multipart upload that was begun with it, S3 wants those of all parts in the
//! request that completes it, so the tag of a part has it behind its ETag.

use aws_sdk_s3::types::CompletedPart;
use aws_smithy_types::base64;

use super::keys;

/// Between the ETag and the checksum in the tag of a part; neither has one.
const BETWEEN: char = ' ';

/// The CRC32C of a body as S3 writes it: base64 of its bytes, the highest first.
pub(super) fn of(body: &[u8]) -> String {
    base64::encode(crc32c::crc32c(body).to_be_bytes())
}

/// The tag of a part, with its checksum if it has one.
pub(super) fn tag(etag: String, checksum: Option<&str>) -> String {
    match checksum {
        Some(checksum) => format!("{etag}{BETWEEN}{checksum}"),
        None => etag,
    }
}

/// A part as it is named in the request that completes the upload.
pub(super) fn completed(number: i32, tag: &str) -> CompletedPart {
    let (etag, checksum) = tag.split_once(BETWEEN).map_or((tag, None), |(etag, checksum)| (etag, Some(checksum)));
    let part = CompletedPart::builder().part_number(number).e_tag(keys::quoted(etag));
    part.set_checksum_crc32_c(checksum.map(str::to_owned)).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_written_as_s3_writes_them() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(of(&[0; 32]), base64::encode([0x8a, 0x91, 0x36, 0xaa]));
    }

    #[test]
    fn a_tag_has_what_completing_needs() {
        let part = completed(7, &tag("abc".to_owned(), Some("ipE2qg==")));
        assert_eq!(
            (part.part_number(), part.e_tag(), part.checksum_crc32_c()),
            (Some(7), Some("\"abc\""), Some("ipE2qg=="))
        );
        let part = completed(1, &tag("abc".to_owned(), None));
        assert_eq!((part.e_tag(), part.checksum_crc32_c()), (Some("\"abc\""), None));
    }
}
