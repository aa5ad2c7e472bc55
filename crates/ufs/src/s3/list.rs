//! Listings.

use aws_sdk_s3::types::{CommonPrefix, EncodingType, Object};
use headpond_types::Timestamp;

use super::{S3, keys};
use crate::{Key, ListPage, ListRequest, Listed, ObjectMeta, UfsError, UfsErrorKind};

impl S3 {
    pub(super) async fn list_page(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        let prefix = self.list_text(&request.prefix)?;
        if prefix == Some("/") {
            return Err(self.invalid(&request.prefix, "is no prefix: an empty one lists the whole bucket"));
        }
        if prefix.is_some_and(|prefix| prefix.len() > self.capabilities.max_key) {
            return Ok(ListPage::default());
        }
        let start_after = match (&request.continuation, &request.start_after) {
            (None, Some(key)) => self.list_text(key)?,
            _ => None,
        };
        let call = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .encoding_type(EncodingType::Url)
            .set_prefix(prefix.map(str::to_owned))
            .set_delimiter(request.delimited.then(|| "/".to_owned()))
            .set_start_after(start_after.map(str::to_owned))
            .set_continuation_token(request.continuation.clone())
            .set_max_keys(i32::try_from(request.max_keys).ok().filter(|most| *most > 0))
            .send();
        let answer = match self.send("list", &request.prefix, call).await {
            // A listing finds nothing by an empty page, never by a 404 that means a key.
            Err(error) if error.kind() == UfsErrorKind::NotFound => {
                return Err(UfsError::new(UfsErrorKind::Protocol, error.to_string()));
            }
            other => other?,
        };
        let decode: fn(&str) -> Key = match answer.encoding_type() {
            Some(EncodingType::Url) => keys::decoded,
            _ => |text| Key::from(text.to_owned()),
        };
        let objects = answer.contents().iter().map(|object| self.listed_object(object, decode));
        let prefixes = answer.common_prefixes().iter().map(|common| self.listed_prefix(common, decode));
        let mut entries = objects.chain(prefixes).collect::<Result<Vec<_>, _>>()?;
        entries.sort_by(|one, other| one.key().cmp(other.key()));
        if let Some(stray) = entries.iter().find(|entry| !entry.key().0.starts_with(&request.prefix.0)) {
            return Err(self.protocol(stray.key(), &format!("was listed under the prefix {:?}", request.prefix)));
        }
        let continuation = match (answer.is_truncated(), answer.next_continuation_token()) {
            (Some(true), Some(token)) if !token.is_empty() => Some(token.to_owned()),
            (Some(true), _) => {
                return Err(self.protocol(&request.prefix, "has more keys than listed, but no continuation"));
            }
            _ => None,
        };
        Ok(ListPage { entries, continuation })
    }

    fn list_text<'k>(&self, key: &'k Key) -> Result<Option<&'k str>, UfsError> {
        match std::str::from_utf8(key.as_bytes()) {
            Ok("") => Ok(None),
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.invalid(key, "is not UTF-8, which S3 keys must be")),
        }
    }

    fn listed_object(&self, object: &Object, decode: fn(&str) -> Key) -> Result<Listed, UfsError> {
        let key = decode(object.key().unwrap_or_default());
        let size = object.size().and_then(|size| u64::try_from(size).ok());
        Ok(Listed::Object(ObjectMeta {
            size: size.ok_or_else(|| self.protocol(&key, "was listed without a size"))?,
            mtime: object.last_modified().map_or_else(Timestamp::default, keys::timestamp),
            version: self.version(&key, object.e_tag())?,
            content: None,
            key,
        }))
    }

    fn listed_prefix(&self, common: &CommonPrefix, decode: fn(&str) -> Key) -> Result<Listed, UfsError> {
        let prefix = decode(common.prefix().unwrap_or_default());
        if prefix.as_bytes().ends_with(b"/") {
            Ok(Listed::Prefix(prefix))
        } else {
            Err(self.protocol(&prefix, "was listed as a common prefix without a trailing slash"))
        }
    }
}
