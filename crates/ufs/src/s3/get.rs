//! Reading ranges.

use aws_sdk_s3::primitives::ByteStream;
use futures::{StreamExt, stream};
use headpond_types::ByteRange;

use super::{S3, keys};
use crate::{BodyStream, Key, UfsError, UfsErrorKind};

impl S3 {
    pub(super) async fn get_range(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        let text = self.text(key)?;
        let past_end =
            |size: u64| self.invalid(key, &format!("has {size} bytes, none at {}..{}", range.start, range.end));
        if range.start > range.end {
            return Err(self.invalid(key, &format!("was asked for the range {}..{}", range.start, range.end)));
        }
        if range.start == range.end {
            // HTTP has no empty range; the version is checked all the same.
            let meta = self.describe(key, Some(version)).await?;
            return if range.end <= meta.size { Ok(stream::empty().boxed()) } else { Err(past_end(meta.size)) };
        }
        let call = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(text)
            .range(format!("bytes={}-{}", range.start, range.end - 1))
            .if_match(keys::quoted(version))
            .send();
        let answer = match self.send("read", key, call).await {
            Err(error) if error.kind() == UfsErrorKind::Precondition => return Err(self.changed(key)),
            other => other?,
        };
        // A server that knows no If-Match answers with what it has.
        if self.version(key, answer.e_tag())? != version {
            return Err(self.changed(key));
        }
        let got = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let length = range.end - range.start;
        match answer.content_range().map(parse_content_range) {
            Some(Some((start, size))) if start == range.start => {
                if range.end > size {
                    return Err(past_end(size));
                }
            }
            // A whole object may be answered without saying its range.
            None if range.start == 0 && got == Some(length) => {}
            _ => return Err(self.protocol(key, "was answered with another range than the one asked for")),
        }
        if got != Some(length) {
            return Err(self.protocol(key, &format!("was answered with {got:?} bytes instead of {length}")));
        }
        Ok(self.body(key, answer.body, length))
    }

    /// The body, which ends in an error unless `length` bytes came.
    fn body(&self, key: &Key, body: ByteStream, length: u64) -> BodyStream {
        let (store, key) = (self.clone(), key.clone());
        stream::unfold(Some((body, length)), move |state| {
            let (store, key) = (store.clone(), key.clone());
            async move {
                let (mut body, left) = state?;
                match body.next().await {
                    Some(Ok(chunk)) => match left.checked_sub(chunk.len() as u64) {
                        Some(left) => Some((Ok(chunk), Some((body, left)))),
                        None => Some((Err(store.protocol(&key, "was answered with more bytes than asked for")), None)),
                    },
                    Some(Err(error)) => {
                        let broken = store.error(UfsErrorKind::Transient, &key, "broke off while it was read");
                        Some((Err(broken.with_source(error.to_string())), None))
                    }
                    None if left == 0 => None,
                    None => Some((Err(store.protocol(&key, &format!("ended {left} bytes early"))), None)),
                }
            }
        })
        .boxed()
    }
}

/// Start and size of the object in `bytes 0-9/100`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, size.parse().ok()?))
}
