//! Deletions of many objects in one request. S3 takes a condition for each of them, but few others do, and none says so: they are without any.

use std::collections::HashMap;

use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};

use super::{S3, failure::kind_of_key};
use crate::{Key, Precondition, UfsError, UfsErrorKind, UnderStore as _};

impl S3 {
    pub(super) async fn delete_objects(&self, keys: &[Key]) -> Result<Vec<Result<(), UfsError>>, UfsError> {
        let together: Vec<_> = keys.iter().filter(|key| is_carried(key)).collect();
        let mut answers = if together.is_empty() { HashMap::new() } else { self.delete_together(&together).await? };
        let mut all = Vec::with_capacity(keys.len());
        for key in keys {
            all.push(if is_carried(key) {
                let nothing = || Err(self.protocol(key, "was to be deleted with others, and nothing was said of it"));
                answers.remove(key).unwrap_or_else(nothing)
            } else {
                self.delete(key, &Precondition::None).await
            });
        }
        Ok(all)
    }

    async fn delete_together(&self, keys: &[&Key]) -> Result<HashMap<Key, Result<(), UfsError>>, UfsError> {
        let Some(first) = keys.first() else { return Ok(HashMap::new()) };
        let unbuilt = |_| self.invalid(first, "cannot be named in a request");
        let mut delete = Delete::builder();
        for key in keys {
            delete = delete.objects(ObjectIdentifier::builder().key(self.text(key)?).build().map_err(unbuilt)?);
        }
        let call = self.client.delete_objects().bucket(&self.bucket).delete(delete.build().map_err(unbuilt)?).send();
        let answer = self.send("delete others and", first, call).await?;
        let deleted = answer.deleted().iter().filter_map(|deleted| Some((deleted.key()?, Ok(()))));
        let failed = answer.errors().iter().filter_map(|error| Some((error.key()?, self.not_deleted(error))));
        Ok(deleted.chain(failed).map(|(key, answer)| (Key::from(key.to_owned()), answer)).collect())
    }

    /// What is said of one that was not deleted.
    fn not_deleted(&self, error: &Error) -> Result<(), UfsError> {
        let (key, code) = (error.key().unwrap_or_default(), error.code().unwrap_or_default());
        match kind_of_key(code) {
            UfsErrorKind::NotFound => Ok(()),
            kind => {
                let message = error.message().unwrap_or_default();
                let why = format!("cannot be deleted: {} answered {code} {message}", self.endpoint);
                Err(self.error(kind, &Key::from(key.to_owned()), &why))
            }
        }
    }
}

/// Whether XML carries the key as it is.
fn is_carried(key: &Key) -> bool {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
    std::str::from_utf8(key.as_bytes()).is_ok_and(|text| text.chars().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_cannot_carry_goes_by_itself() {
        for (key, carried) in [
            (&b"a/b c+%&<>\"'"[..], true),
            ("gr\u{fc}n \u{1f600}".as_bytes(), true),
            (b"a\nb", false),
            (b"a\tb", false),
            (b"\x01", false),
            (b"\x7f", false),
            ("\u{85}".as_bytes(), false),
            ("\u{ffff}".as_bytes(), false),
            (b"\xff", false),
        ] {
            assert_eq!(is_carried(&Key::from(key.to_vec())), carried, "{key:?}");
        }
    }
}
