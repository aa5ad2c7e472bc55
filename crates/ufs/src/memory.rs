//! A store in the memory of this process, for tests of other crates and for trying things out.
//!
//! Stores with one name share their objects. Versions are hashes of the bytes, as ETags mostly are: a store made anew never gives other bytes
//! an old version.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use headpond_runtime::{Clock, SystemClock};
use headpond_types::{ByteRange, ContentId, Timestamp};
use sha2::{Digest, Sha256};

use crate::{
    BodyStream, Capabilities, Key, Label, ListPage, ListRequest, Listed, ObjectMeta, Precondition, UfsError,
    UfsErrorKind, UnderStore, UploadMark, UploadPage,
    listing::{Resume, page_size},
};

/// A body arrives in pieces of this size, so that users meet bodies of several pieces.
const PIECE: usize = 1 << 20;

/// Uploads in a page of their listing: few, so that tests meet several pages.
const UPLOADS_PAGE: usize = 10;

static STORES: LazyLock<Mutex<BTreeMap<String, Arc<Mutex<State>>>>> = LazyLock::new(Mutex::default);

/// A store in memory.
#[derive(Clone)]
pub struct Memory {
    identity: String,
    capabilities: Capabilities,
    /// See [`Memory::hiding`].
    hides: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Bytes, Object>,
    uploads: BTreeMap<String, Upload>,
    uploads_begun: u64,
}

#[derive(Clone)]
struct Object {
    body: Bytes,
    mtime: Timestamp,
    version: String,
    content: Option<ContentId>,
}

struct Upload {
    key: Key,
    content: Option<ContentId>,
    parts: BTreeMap<u32, (String, Bytes)>,
}

impl Memory {
    /// The store called `name`, with what this process has put there already.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        let state = Arc::clone(stores.entry(name.to_owned()).or_default());
        drop(stores);
        Self {
            identity: format!("memory://{name}"),
            capabilities: Capabilities {
                conditional_put: true,
                conditional_copy: true,
                copy_through: None,
                conditional_delete: true,
                max_deletes: 1,
                ordered_listing: true,
                native_directories: false,
                native_rename: false,
                min_part_size: 1,
                max_parts: 10_000,
                max_put_size: u64::MAX,
                max_key: usize::MAX,
            },
            hides: false,
            state,
        }
    }

    /// The same store, as stores are that keep each object in a directory of its name, as MinIO does: a listing shows nothing below an object that is
    /// at its prefix or below that, but for a marker under the very name. What is asked for by its key is found.
    #[must_use]
    pub fn hiding(self) -> Self {
        Self { hides: true, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: UfsErrorKind, key: &Key, why: &str) -> UfsError {
        UfsError::new(kind, format!("{}/{key} {why}", self.identity))
    }

    fn check_key(&self, key: &Key) -> Result<(), UfsError> {
        match key.as_bytes() {
            b"" | b"/" => Err(self.error(UfsErrorKind::Invalid, key, "is no key: an object needs a name")),
            _ => Ok(()),
        }
    }

    fn find(&self, key: &Key) -> Result<Object, UfsError> {
        self.check_key(key)?;
        let found = self.state().objects.get(&key.0).cloned();
        found.ok_or_else(|| self.error(UfsErrorKind::NotFound, key, "does not exist"))
    }

    fn find_version(&self, key: &Key, version: &str, range: &ByteRange) -> Result<Bytes, UfsError> {
        let object = self.find(key)?;
        if object.version != version {
            return Err(self.error(UfsErrorKind::Changed, key, "has changed since it was listed"));
        }
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        match bounds {
            Some((start, end)) if start <= end && end <= object.body.len() => Ok(object.body.slice(start..end)),
            _ => Err(self.error(UfsErrorKind::Invalid, key, &format!("has no bytes {}..{}", range.start, range.end))),
        }
    }

    fn upload<'s>(&self, state: &'s mut State, key: &Key, id: &str) -> Result<&'s mut Upload, UfsError> {
        state
            .uploads
            .get_mut(id)
            .filter(|upload| upload.key == *key)
            .ok_or_else(|| self.error(UfsErrorKind::NotFound, key, &format!("has no upload {id}")))
    }

    fn check(&self, state: &State, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        let present = state.objects.get(&key.0).map(|object| object.version.as_str());
        let holds = match condition {
            Precondition::None => true,
            Precondition::Matches(version) => present == Some(version),
            Precondition::Absent => present.is_none(),
        };
        if holds { Ok(()) } else { Err(self.error(UfsErrorKind::Precondition, key, "is not as the condition says")) }
    }

    fn store(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        self.check_key(key)?;
        let version = version_of(&body);
        self.store_version(key, body, version, condition, content)
    }

    fn store_version(
        &self,
        key: &Key,
        body: Bytes,
        version: String,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        let mut state = self.state();
        self.check(&state, key, condition)?;
        let object = Object { body, mtime: SystemClock.now(), version, content };
        let meta = describe(&key.0, &object);
        state.objects.insert(key.0.clone(), object);
        drop(state);
        Ok(meta)
    }
}

fn version_of(body: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(body));
    text.truncate(32);
    text
}

fn describe(key: &Bytes, object: &Object) -> ObjectMeta {
    ObjectMeta {
        key: Key(key.clone()),
        size: object.body.len() as u64,
        mtime: object.mtime,
        version: object.version.clone(),
        content: object.content,
    }
}

/// Whether a listing of `prefix` does not show `key`, since what leads from there to it is an object.
fn is_hidden(state: &State, prefix: &Bytes, key: &Bytes) -> bool {
    let top = prefix.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    let names = key.strip_suffix(b"/").unwrap_or(key);
    let slashes = (top..names.len()).filter(|at| names[*at] == b'/');
    slashes.into_iter().any(|at| state.objects.contains_key(&names[..at]))
}

fn page(state: &State, request: &ListRequest, mut resume: Resume, hides: bool) -> ListPage {
    let prefix = &request.prefix.0;
    let most = page_size(request);
    let mut entries: Vec<Listed> = Vec::new();
    loop {
        let from = match &resume {
            Resume::After(key) | Resume::Past(key) if key > prefix => Bound::Excluded(key.clone()),
            _ => Bound::Included(prefix.clone()),
        };
        let next = state.objects.range((from, Bound::Unbounded)).find(|(key, _)| resume.admits(key));
        let Some((key, object)) = next.filter(|(key, _)| key.starts_with(prefix)) else {
            return ListPage { entries, continuation: None };
        };
        if hides && is_hidden(state, prefix, key) {
            resume = Resume::After(key.clone());
            continue;
        }
        if entries.len() == most {
            let continuation = entries.last().map(Resume::token);
            return ListPage { entries, continuation };
        }
        let behind = &key[prefix.len()..];
        let fold = if request.delimited { behind.iter().position(|byte| *byte == b'/') } else { None };
        if let Some(slash) = fold {
            let common = key.slice(..=prefix.len() + slash);
            entries.push(Listed::Prefix(Key(common.clone())));
            resume = Resume::Past(common);
        } else {
            entries.push(Listed::Object(ObjectMeta { content: None, ..describe(key, object) }));
            resume = Resume::After(key.clone());
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("identity", &self.identity).finish_non_exhaustive()
    }
}

#[async_trait]
impl UnderStore for Memory {
    fn identity(&self) -> &str {
        &self.identity
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, UfsError> {
        let resume = Resume::of(request)?;
        Ok(page(&self.state(), request, resume, self.hides))
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        Ok(describe(&key.0, &self.find(key)?))
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        let body = self.find_version(key, version, &range)?;
        let pieces = (0..body.len()).step_by(PIECE).map(move |at| Ok(body.slice(at..body.len().min(at + PIECE))));
        Ok(stream::iter(pieces).boxed())
    }

    async fn put_as(
        &self,
        key: &Key,
        body: Bytes,
        condition: &Precondition,
        label: Label,
    ) -> Result<ObjectMeta, UfsError> {
        self.store(key, body, condition, label.content)
    }

    async fn create_multipart_as(&self, key: &Key, label: Label) -> Result<String, UfsError> {
        self.check_key(key)?;
        let mut state = self.state();
        state.uploads_begun += 1;
        let id = format!("upload-{}", state.uploads_begun);
        state.uploads.insert(id.clone(), Upload { key: key.clone(), content: label.content, parts: BTreeMap::new() });
        drop(state);
        Ok(id)
    }

    async fn put_part(&self, key: &Key, upload: &str, number: u32, body: Bytes) -> Result<String, UfsError> {
        let tag = version_of(&body);
        let mut state = self.state();
        self.upload(&mut state, key, upload)?.parts.insert(number, (tag.clone(), body));
        drop(state);
        Ok(tag)
    }

    async fn copy_part(
        &self,
        key: &Key,
        upload: &str,
        number: u32,
        source: &Key,
        range: ByteRange,
        version: &str,
    ) -> Result<String, UfsError> {
        let body = self.find_version(source, version, &range)?;
        self.put_part(key, upload, number, body).await
    }

    async fn complete_multipart(
        &self,
        key: &Key,
        upload: &str,
        parts: &[(u32, String)],
        condition: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        let (body, content) = {
            let mut state = self.state();
            self.check(&state, key, condition)?;
            let Upload { parts: known, content, .. } = self.upload(&mut state, key, upload)?;
            let mut whole = BytesMut::new();
            for (number, tag) in parts {
                match known.get(number) {
                    Some((stored, body)) if stored == tag => whole.extend_from_slice(body),
                    _ => return Err(self.error(UfsErrorKind::Invalid, key, &format!("has no part {number} {tag}"))),
                }
            }
            (whole.freeze(), *content)
        };
        // As on S3, another than that of the same bytes put at once.
        let version = format!("{}-{}", version_of(&body), parts.len());
        let meta = self.store_version(key, body, version, condition, content)?;
        self.state().uploads.remove(upload);
        Ok(meta)
    }

    async fn abort_multipart(&self, _key: &Key, upload: &str) -> Result<(), UfsError> {
        self.state().uploads.remove(upload);
        Ok(())
    }

    async fn uploads(&self, after: Option<&UploadMark>) -> Result<UploadPage, UfsError> {
        let state = self.state();
        let mut uploads: Vec<_> = state
            .uploads
            .iter()
            .map(|(id, upload)| UploadMark { key: upload.key.clone(), upload: id.clone() })
            .filter(|mark| after.is_none_or(|after| (&mark.key, &mark.upload) > (&after.key, &after.upload)))
            .collect();
        drop(state);
        uploads.sort_unstable_by(|one, other| (&one.key, &one.upload).cmp(&(&other.key, &other.upload)));
        let more = uploads.len() > UPLOADS_PAGE;
        uploads.truncate(UPLOADS_PAGE);
        let next = uploads.last().filter(|_| more).cloned();
        Ok(UploadPage { uploads, next })
    }

    async fn copy_as(
        &self,
        source: &Key,
        version: &str,
        key: &Key,
        condition: &Precondition,
        content: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        let object = self.find(source)?;
        let body = self.find_version(source, version, &(0..object.body.len() as u64))?;
        self.store(key, body, condition, content.or(object.content))
    }

    async fn delete(&self, key: &Key, condition: &Precondition) -> Result<(), UfsError> {
        self.check_key(key)?;
        let mut state = self.state();
        self.check(&state, key, condition)?;
        state.objects.remove(&key.0);
        drop(state);
        Ok(())
    }
}
