//! Listings of multipart uploads.

use aws_sdk_s3::types::EncodingType;

use super::{S3, keys};
use crate::{Key, UfsError, UploadMark, UploadPage};

impl S3 {
    /// All over the bucket: MinIO takes a prefix for a whole key.
    pub(super) async fn uploads_page(&self, after: Option<&UploadMark>) -> Result<UploadPage, UfsError> {
        let call = self
            .client
            .list_multipart_uploads()
            .bucket(&self.bucket)
            .encoding_type(EncodingType::Url)
            .set_key_marker(after.map(|mark| self.text(&mark.key).map(str::to_owned)).transpose()?)
            .set_upload_id_marker(after.map(|mark| mark.upload.clone()))
            .send();
        let whole = Key::default();
        let answer = self.send("list the uploads of", after.map_or(&whole, |mark| &mark.key), call).await?;
        let decode: fn(&str) -> Key = match answer.encoding_type() {
            Some(EncodingType::Url) => keys::decoded,
            _ => |text| Key::from(text.to_owned()),
        };
        let mark = |key: Option<&str>, upload: Option<&str>| {
            let upload = upload.filter(|upload| !upload.is_empty())?;
            Some(UploadMark { key: decode(key?), upload: upload.to_owned() })
        };
        let uploads = answer.uploads().iter().filter_map(|upload| mark(upload.key(), upload.upload_id())).collect();
        let next = mark(answer.next_key_marker(), answer.next_upload_id_marker());
        match next {
            None if answer.is_truncated() == Some(true) => {
                Err(self.protocol(&whole, "has more uploads than listed, but does not say where to go on"))
            }
            next => Ok(UploadPage { uploads, next: next.filter(|_| answer.is_truncated() == Some(true)) }),
        }
    }
}
