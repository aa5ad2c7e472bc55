//! Copying one object within a store, only if the destination is as expected.
//!
//! Stores differ in what they take a condition on (see [`Capabilities`]): some on a copy, most on completing a multipart upload, so that is how an
//! object is copied where a copy takes none, or where it is large; a short one is read and put again under the condition. An upload that does not become
//! the copy is aborted in the background, by the next master if this one ends (see [`Abandoned`](headpond_ufs::Abandoned)); of what was put, and not
//! answered, see [`Unanswered`](super::Unanswered).

use std::sync::Arc;

use bytes::Bytes;
use fail::fail_point;
use futures::{StreamExt, TryStreamExt, stream};
use headpond_types::{ContentId, Error, ErrorKind, Result};
use headpond_ufs::{Capabilities, Key, Noted, ObjectMeta, Precondition, UnderStore};

use super::Relocator;
use crate::mount::{LiveMount, Verdict};

/// Larger objects are copied in parts of this size: each ends well within the deadline of a request.
const PART: u64 = 64 << 20;

/// Parts of one object that are copied at the same time.
const PARTS_AT_ONCE: usize = 4;

/// What to copy.
#[derive(Debug)]
pub(crate) struct Copy<'c> {
    pub(crate) source: &'c Key,
    /// Of the source.
    pub(crate) version: &'c str,
    /// Bytes of the source.
    pub(crate) size: u64,
    pub(crate) target: &'c Key,
    /// On the target.
    pub(crate) condition: &'c Precondition,
    /// What the copy says that it is; `None`: what the source says, as far as the store copies that.
    pub(crate) content: Option<ContentId>,
    /// Whether it may be read and put again. A PUT without an answer may be carried out later, so only where the target is known for nobody's until it is
    /// not any more.
    pub(crate) through: bool,
}

/// What the copy of the version `version` at `target` says that it is. It is known before the copy is made, so one that was not journalled is known again;
/// its version is not: stores may give a copy another.
pub(crate) fn mark(target: &Key, version: &str) -> ContentId {
    ContentId::of_object("copy", target.as_bytes(), version, 0)
}

/// How a copy ended.
#[derive(Debug)]
pub(crate) enum Copied {
    /// The target.
    Done(ObjectMeta),
    /// The source is another by now, or gone.
    SourceChanged,
    /// The target is not as the condition says.
    Occupied,
}

impl Copy<'_> {
    /// Copies.
    ///
    /// Where the store takes no condition at all, the target is looked at just before: what is stored there between the two requests is
    /// overwritten.
    ///
    /// # Errors
    /// Those of the store; whether the copy was made is then not known.
    pub(crate) async fn perform(&self, mount: &Arc<LiveMount>, relocator: &Relocator) -> Result<Copied> {
        let store = mount.store().await?;
        let can = store.capabilities();
        let has_parts = can.min_part_size > 0;
        let in_one = self.size <= if has_parts { can.max_put_size.min(PART) } else { can.max_put_size };
        // A version may come again when the same bytes do; that there is none is told of no other object.
        let through = self.through && *self.condition == Precondition::Absent;
        if through && can.copy_through.is_some_and(|most| self.size <= most) {
            let source = (self.source, self.version, self.size);
            let asked = relocator.unanswered.ask(mount.mount.id);
            let copy = store.copy_through(source, self.target, self.condition, self.content);
            let verdict = asked.answered(mount.attempt("copy", self.source, copy).await)?;
            return self.what_became(mount, store, verdict).await;
        }
        if self.size == 0 {
            return self.make_empty(mount, store).await;
        }
        if in_one && can.conditional_copy {
            return self.in_one(mount, store, self.condition).await;
        }
        if has_parts && can.conditional_put {
            return self.in_parts(mount, relocator, self.condition).await;
        }
        if !self.target_is_as_expected(mount, store).await? {
            return Ok(Copied::Occupied);
        }
        if in_one {
            self.in_one(mount, store, &Precondition::None).await
        } else {
            self.in_parts(mount, relocator, &Precondition::None).await
        }
    }

    async fn make_empty(&self, mount: &LiveMount, store: &Arc<dyn UnderStore>) -> Result<Copied> {
        let conditional = store.capabilities().conditional_put;
        if !conditional && !self.target_is_as_expected(mount, store).await? {
            return Ok(Copied::Occupied);
        }
        let condition = if conditional { self.condition } else { &Precondition::None };
        match mount
            .attempt("write", self.target, store.put_as(self.target, Bytes::new(), condition, self.content.into()))
            .await?
        {
            Verdict::Done(meta) => Ok(Copied::Done(meta)),
            Verdict::Missing | Verdict::Unmet => Ok(Copied::Occupied),
        }
    }

    async fn in_one(&self, mount: &LiveMount, store: &Arc<dyn UnderStore>, condition: &Precondition) -> Result<Copied> {
        let copy = store.copy_as(self.source, self.version, self.target, condition, self.content);
        self.what_became(mount, store, mount.attempt("copy", self.source, copy).await?).await
    }

    async fn what_became(
        &self,
        mount: &LiveMount,
        store: &Arc<dyn UnderStore>,
        verdict: Verdict<ObjectMeta>,
    ) -> Result<Copied> {
        match verdict {
            Verdict::Done(meta) => Ok(Copied::Done(meta)),
            Verdict::Missing => Ok(Copied::SourceChanged),
            // Which of the two is not as expected?
            Verdict::Unmet => match mount.ask("find", self.source, store.head(self.source)).await? {
                Some(meta) if meta.version == self.version => Ok(Copied::Occupied),
                _ => Ok(Copied::SourceChanged),
            },
        }
    }

    async fn in_parts(
        &self,
        mount: &Arc<LiveMount>,
        relocator: &Relocator,
        condition: &Precondition,
    ) -> Result<Copied> {
        let Some((upload, noted)) = self.begin(mount, relocator).await? else { return Ok(Copied::SourceChanged) };
        let copied = self.upload_parts(mount, mount.store().await?, &upload, condition).await;
        if matches!(copied, Ok(Copied::Done(_))) {
            noted.done().await;
        }
        copied
    }

    /// In a task of its own: dropped between the store's answer and the note, the upload would be nobody's.
    async fn begin(&self, mount: &Arc<LiveMount>, relocator: &Relocator) -> Result<Option<(String, Noted)>> {
        let (mount, abandoned, content) = (mount.clone(), relocator.abandoned.clone(), self.content);
        let (source, version, target) = (self.source.clone(), self.version.to_owned(), self.target.clone());
        let begun = relocator.tasks.spawn(async move {
            let store = mount.store().await?;
            let begun = store.create_multipart_copy(&source, &version, &target, content);
            let Verdict::Done(upload) = mount.attempt("begin a copy of", &source, begun).await? else {
                return Ok(None);
            };
            let noted = abandoned.note(mount.mount.id, &target, &upload).await;
            fail_point!("relocate::uploading");
            Ok(Some((upload, noted)))
        });
        begun.await.map_err(|error| Error::new(ErrorKind::Internal, "beginning an upload").with_source(error))?
    }

    async fn upload_parts(
        &self,
        mount: &LiveMount,
        store: &Arc<dyn UnderStore>,
        upload: &str,
        condition: &Precondition,
    ) -> Result<Copied> {
        let size = part_size(self.size, store.capabilities());
        let copy_part = |number: u32| async move {
            let start = u64::from(number - 1) * size;
            let range = start..self.size.min(start + size);
            let part = store.copy_part(self.target, upload, number, self.source, range, self.version);
            match mount.attempt("copy a part of", self.source, part).await? {
                Verdict::Done(tag) => Ok::<_, Error>(Some((number, tag))),
                Verdict::Missing | Verdict::Unmet => Ok(None),
            }
        };
        let count = u32::try_from(self.size.div_ceil(size)).unwrap_or(u32::MAX);
        let parts = stream::iter(1..=count).map(copy_part).buffered(PARTS_AT_ONCE);
        let parts: Option<Vec<_>> = parts.try_collect::<Vec<_>>().await?.into_iter().collect();
        let Some(parts) = parts else { return Ok(Copied::SourceChanged) };
        let complete = store.complete_multipart(self.target, upload, &parts, condition);
        match mount.attempt("complete", self.target, complete).await? {
            Verdict::Done(meta) => Ok(Copied::Done(meta)),
            Verdict::Unmet => Ok(Copied::Occupied),
            Verdict::Missing => Err(gone(self.target)),
        }
    }

    async fn target_is_as_expected(&self, mount: &LiveMount, store: &Arc<dyn UnderStore>) -> Result<bool> {
        let there = mount.ask("find", self.target, store.head(self.target)).await?;
        Ok(match self.condition {
            Precondition::None => true,
            Precondition::Absent => there.is_none(),
            Precondition::Matches(version) => there.is_some_and(|meta| meta.version == *version),
        })
    }
}

/// Bytes of the parts of an object of `size`.
fn part_size(size: u64, can: &Capabilities) -> u64 {
    can.part_size(size, PART).min(can.max_put_size)
}

fn gone(key: &Key) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the upload of {key:?} is gone"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_with_the_object_up_to_what_the_store_takes() {
        let can = Capabilities {
            conditional_put: true,
            conditional_copy: false,
            copy_through: None,
            conditional_delete: false,
            max_deletes: 1,
            ordered_listing: true,
            native_directories: false,
            native_rename: false,
            min_part_size: 5 << 20,
            max_parts: 10_000,
            max_put_size: 5 << 30,
            max_key: 1024,
        };
        assert_eq!(part_size(1, &can), PART);
        assert_eq!(part_size(10_000 * PART, &can), PART);
        let huge = 5 << 40;
        assert!(part_size(huge, &can) > PART && huge.div_ceil(part_size(huge, &can)) <= 10_000);
    }
}
