//! An under store in memory that counts what it sends and fails as it is told.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream};
use headpond_proto::v1::Mount;
use headpond_types::{ByteRange, ContentId, Result, Timestamp};
use headpond_ufs::{
    BodyStream, Capabilities, Key, Label, ListPage, ListRequest, ObjectMeta, Precondition, UfsError, UfsErrorKind,
    UnderStore,
};
use tokio::sync::watch;

use crate::mounts::Connect;

/// What a GET does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It answers.
    Serves,
    /// It waits until the mood changes.
    Holds,
    /// It fails.
    Fails(UfsErrorKind),
    /// It answers with that pause before each part.
    Trickles(Duration),
    /// It sends that many bytes, then breaks off.
    BreaksAfter(usize),
}

#[derive(Clone, Debug)]
struct Object {
    version: String,
    body: Bytes,
}

/// The store.
#[derive(Debug)]
pub(super) struct Lake {
    objects: Mutex<HashMap<Key, Object>>,
    gets: watch::Sender<Vec<(Key, ByteRange)>>,
    mood: watch::Sender<Mood>,
    capabilities: Capabilities,
}

impl Lake {
    pub(super) fn new() -> Arc<Self> {
        let capabilities = Capabilities {
            conditional_put: false,
            conditional_copy: false,
            copy_through: None,
            conditional_delete: false,
            max_deletes: 1,
            ordered_listing: true,
            native_directories: false,
            native_rename: false,
            min_part_size: 0,
            max_parts: 0,
            max_put_size: 0,
            max_key: 1024,
        };
        let (gets, mood) = (watch::Sender::new(Vec::new()), watch::Sender::new(Mood::Serves));
        Arc::new(Self { objects: Mutex::default(), gets, mood, capabilities })
    }

    /// Puts an object and answers its bytes.
    pub(super) fn put(&self, key: &str, version: &str, length: u64) -> Bytes {
        let seed = ContentId::of_object(key, b"", version, length).halves().0;
        let mut body: Vec<u8> = (0..length.div_ceil(8)).flat_map(|word| noise(seed ^ word).to_le_bytes()).collect();
        body.truncate(usize::try_from(length).expect("64 bits"));
        let body = Bytes::from(body);
        let object = Object { version: version.to_owned(), body: body.clone() };
        self.objects.lock().expect("lock").insert(Key::from(key.to_owned()), object);
        body
    }

    pub(super) fn remove(&self, key: &str) {
        self.objects.lock().expect("lock").remove(&Key::from(key.to_owned()));
    }

    /// Version, length and content id of an object.
    pub(super) fn describe(&self, key: &str) -> (String, u64, ContentId) {
        let object = self.objects.lock().expect("lock").get(&Key::from(key.to_owned())).cloned().expect("an object");
        let length = object.body.len() as u64;
        (object.version.clone(), length, ContentId::of_object("lake", key.as_bytes(), &object.version, length))
    }

    pub(super) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// The ranges asked for so far.
    pub(super) fn gets(&self) -> Vec<ByteRange> {
        self.gets.borrow().iter().map(|(_, range)| range.clone()).collect()
    }

    /// Waits until a GET was asked for.
    pub(super) async fn asked(&self, times: usize) {
        self.gets.subscribe().wait_for(|gets| gets.len() >= times).await.expect("the sender lives");
    }

    /// Bytes asked for so far.
    pub(super) fn sent(&self) -> u64 {
        self.gets().into_iter().map(|range| range.end - range.start).sum()
    }

    fn unsupported<T>() -> Result<T, UfsError> {
        Err(UfsError::new(UfsErrorKind::Unsupported, "this store only reads and puts"))
    }
}

fn noise(seed: u64) -> u64 {
    let value = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Connects every mount to one lake.
#[derive(Debug)]
pub(super) struct ToLake(pub(super) Arc<Lake>);

impl Connect for ToLake {
    fn connect<'a>(&'a self, _: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
        let lake: Arc<dyn UnderStore> = Arc::<Lake>::clone(&self.0);
        Box::pin(async { Ok(lake) })
    }
}

#[async_trait]
impl UnderStore for Lake {
    fn identity(&self) -> &str {
        "lake"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn get(&self, key: &Key, range: ByteRange, version: &str) -> Result<BodyStream, UfsError> {
        self.gets.send_modify(|gets| gets.push((key.clone(), range.clone())));
        let mood = self.mood.subscribe().wait_for(|mood| *mood != Mood::Holds).await.expect("lives").clone();
        let object = self.objects.lock().expect("lock").get(key).cloned();
        let object = object.ok_or_else(|| UfsError::new(UfsErrorKind::NotFound, format!("lake/{key} is gone")))?;
        if object.version != version {
            return Err(UfsError::new(UfsErrorKind::Changed, format!("lake/{key} has changed")));
        }
        let bounds = |at: u64| usize::try_from(at).expect("small");
        let body = object.body.slice(bounds(range.start)..bounds(range.end));
        // Parts that fit neither pages nor each other.
        let parts = (0..body.len()).step_by(300_001).map({
            let body = body.clone();
            move |at| Ok(body.slice(at..body.len().min(at + 300_001)))
        });
        match mood {
            Mood::Fails(kind) => Err(UfsError::new(kind, format!("lake/{key} fails"))),
            Mood::BreaksAfter(bytes) if bytes < body.len() => {
                let broken = Err(UfsError::new(UfsErrorKind::Transient, format!("lake/{key} broke off")));
                Ok(stream::iter([Ok(body.slice(..bytes)), broken]).boxed())
            }
            Mood::Trickles(pause) => Ok(stream::iter(parts)
                .then(move |part| async move {
                    tokio::time::sleep(pause).await;
                    part
                })
                .boxed()),
            _ => Ok(stream::iter(parts.collect::<Vec<_>>()).boxed()),
        }
    }

    async fn list(&self, _: &ListRequest) -> Result<ListPage, UfsError> {
        Self::unsupported()
    }

    async fn head(&self, key: &Key) -> Result<ObjectMeta, UfsError> {
        let object = self.objects.lock().expect("lock").get(key).cloned();
        let object = object.ok_or_else(|| UfsError::new(UfsErrorKind::NotFound, format!("lake/{key} is not there")))?;
        let Object { version, body } = object;
        Ok(ObjectMeta { key: key.clone(), size: body.len() as u64, mtime: Timestamp(7), version, content: None })
    }

    async fn put_as(&self, key: &Key, body: Bytes, condition: &Precondition, _: Label) -> Result<ObjectMeta, UfsError> {
        assert_eq!(*condition, Precondition::None, "this store has no conditions");
        let version = ContentId::of_object("lake", &body, "", 0).to_string();
        self.objects.lock().expect("lock").insert(key.clone(), Object { version, body });
        self.head(key).await
    }

    async fn create_multipart_as(&self, _: &Key, _: Label) -> Result<String, UfsError> {
        Self::unsupported()
    }

    async fn put_part(&self, _: &Key, _: &str, _: u32, _: Bytes) -> Result<String, UfsError> {
        Self::unsupported()
    }

    async fn copy_part(&self, _: &Key, _: &str, _: u32, _: &Key, _: ByteRange, _: &str) -> Result<String, UfsError> {
        Self::unsupported()
    }

    async fn complete_multipart(
        &self,
        _: &Key,
        _: &str,
        _: &[(u32, String)],
        _: &Precondition,
    ) -> Result<ObjectMeta, UfsError> {
        Self::unsupported()
    }

    async fn abort_multipart(&self, _: &Key, _: &str) -> Result<(), UfsError> {
        Self::unsupported()
    }

    async fn copy_as(
        &self,
        _: &Key,
        _: &str,
        _: &Key,
        _: &Precondition,
        _: Option<ContentId>,
    ) -> Result<ObjectMeta, UfsError> {
        Self::unsupported()
    }

    async fn delete(&self, _: &Key, _: &Precondition) -> Result<(), UfsError> {
        Self::unsupported()
    }
}
