//! A namespace in memory in place of a cluster, with knobs for what clusters do.

mod source;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use headpond_client::{Awaited, Event, Lookup};
use headpond_types::{Attr, ContentId, Error, ErrorKind, FileKind, InodeId, MountId, Name, Result, Timestamp};
use tokio::{
    sync::{broadcast, watch},
    time::Instant,
};

use crate::source::{Loan, SourceFile};
pub(crate) use writer::FakeWriter;

/// The namespace. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct FakePond(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    events: broadcast::Sender<Event>,
    knobs: Knobs,
    asked: Asked,
}

/// How the namespace behaves.
#[derive(Debug)]
struct Knobs {
    /// Whether `cached_*` answer.
    warm: AtomicBool,
    page: AtomicUsize,
    /// Listings fail once this many entries were given; `usize::MAX`: never.
    break_after: AtomicUsize,
    validity: Mutex<Duration>,
    /// Persisting fails.
    refusing: AtomicBool,
    /// Attributes are answered when it is true.
    answering: watch::Sender<bool>,
}

/// How often it was asked something that may wait.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) lookups: AtomicUsize,
    pub(crate) attrs: AtomicUsize,
    pub(crate) lists: AtomicUsize,
    pub(crate) opens: AtomicUsize,
    pub(crate) links: AtomicUsize,
    pub(crate) persists: AtomicUsize,
    /// Bytes that were said to be another file's.
    pub(crate) copied: AtomicUsize,
    /// Mounts that have ended.
    pub(crate) let_go: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    nodes: HashMap<InodeId, Node>,
    /// Files that have no name any more.
    replaced: HashMap<InodeId, Arc<FakeFile>>,
    writers: HashMap<InodeId, Weak<FakeWriter>>,
    targets: HashMap<InodeId, Bytes>,
    xattrs: BTreeMap<(InodeId, Vec<u8>), Bytes>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Node {
    attr: Arc<Attr>,
    children: BTreeMap<Name, InodeId>,
    file: Option<Arc<FakeFile>>,
}

/// A file in memory, and the same in a temporary file once it is complete.
#[derive(Debug)]
pub(crate) struct FakeFile {
    attr: Arc<Attr>,
    data: Vec<u8>,
    /// Set when it is complete.
    local: OnceLock<Arc<File>>,
    /// Reads answer when it is true.
    flowing: watch::Sender<bool>,
    asked_reads: AtomicUsize,
}

impl FakePond {
    pub(crate) fn new() -> Self {
        let mut state = State { last: 1, ..State::default() };
        let root = attr(InodeId::ROOT, InodeId::ROOT, FileKind::Directory, 0);
        state.nodes.insert(InodeId::ROOT, Node { attr: root, children: BTreeMap::new(), file: None });
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            events: broadcast::channel(64).0,
            knobs: Knobs {
                warm: AtomicBool::new(true),
                page: AtomicUsize::new(1000),
                break_after: AtomicUsize::new(usize::MAX),
                validity: Mutex::new(Duration::from_mins(5)),
                refusing: AtomicBool::new(false),
                answering: watch::channel(true).0,
            },
            asked: Asked::default(),
        }))
    }

    pub(crate) fn asked(&self) -> &Asked {
        &self.0.asked
    }

    pub(crate) fn set_warm(&self, warm: bool) {
        self.0.knobs.warm.store(warm, Ordering::SeqCst);
    }

    pub(crate) fn set_page(&self, entries: usize) {
        self.0.knobs.page.store(entries, Ordering::SeqCst);
    }

    pub(crate) fn set_break_after(&self, entries: usize) {
        self.0.knobs.break_after.store(entries, Ordering::SeqCst);
    }

    pub(crate) fn set_validity(&self, validity: Duration) {
        *self.0.knobs.validity.lock().unwrap() = validity;
    }

    /// Lets those wait who ask for attributes while it is not warm, or go on.
    pub(crate) fn set_answering(&self, answering: bool) {
        self.0.knobs.answering.send_replace(answering);
    }

    /// Lets persisting fail, or succeed again.
    pub(crate) fn set_refusing(&self, refusing: bool) {
        self.0.knobs.refusing.store(refusing, Ordering::SeqCst);
    }

    /// The bytes of a file as others see them.
    pub(crate) fn stored(&self, parent: InodeId, name: &str) -> Vec<u8> {
        let inode = self.child(parent, name.as_bytes()).expect("it exists").inode;
        self.state().nodes[&inode].file.as_ref().expect("a file").data.clone()
    }

    /// Reads of a removed file that went to the cluster.
    pub(crate) fn replaced_reads(&self, inode: InodeId) -> usize {
        self.state().replaced[&inode].asked_reads.load(Ordering::SeqCst)
    }

    /// Files that are being written.
    pub(crate) fn writing(&self) -> usize {
        self.state().writers.values().filter(|writer| writer.strong_count() > 0).count()
    }

    /// Another client writes a file, and nobody hears of it.
    pub(crate) fn rewrite_silently(&self, inode: InodeId, data: &[u8]) {
        self.commit(inode, data.to_vec());
    }

    /// Another client writes a file.
    pub(crate) fn rewrite(&self, parent: InodeId, name: &str, data: &[u8]) {
        let inode = self.child(parent, name.as_bytes()).expect("it exists").inode;
        self.commit(inode, data.to_vec());
        self.tell(parent, name, Some(inode));
    }

    pub(crate) fn dir(&self, parent: InodeId, name: &str) -> InodeId {
        self.add(parent, name, FileKind::Directory, &[])
    }

    pub(crate) fn file(&self, parent: InodeId, name: &str, data: &[u8]) -> InodeId {
        self.add(parent, name, FileKind::File, data)
    }

    /// The bytes of `inode` are all on the local disk from now on.
    pub(crate) fn complete(&self, inode: InodeId) {
        let state = self.state();
        let file = state.nodes[&inode].file.as_ref().unwrap();
        let mut local = tempfile::tempfile().unwrap();
        local.write_all(&file.data).unwrap();
        file.local.set(Arc::new(local)).unwrap();
    }

    /// Lets reads of `inode` wait, or go on.
    pub(crate) fn set_flowing(&self, inode: InodeId, flowing: bool) {
        self.state().nodes[&inode].file.as_ref().unwrap().flowing.send_replace(flowing);
    }

    /// Reads of `inode` that went to the cluster.
    pub(crate) fn reads(&self, inode: InodeId) -> usize {
        self.state().nodes[&inode].file.as_ref().unwrap().asked_reads.load(Ordering::SeqCst)
    }

    /// Replaces an object: the name gets a new inode, and watchers hear of it.
    pub(crate) fn replace(&self, parent: InodeId, name: &str, data: &[u8]) -> InodeId {
        let old = self.remove_silently(parent, name);
        let new = self.add(parent, name, FileKind::File, data);
        self.tell(parent, name, old);
        new
    }

    /// The same, and nobody hears of it.
    pub(crate) fn replace_silently(&self, parent: InodeId, name: &str, data: &[u8]) -> InodeId {
        self.remove_silently(parent, name);
        self.add(parent, name, FileKind::File, data)
    }

    pub(crate) fn remove(&self, parent: InodeId, name: &str) {
        let old = self.remove_silently(parent, name);
        self.tell(parent, name, old);
    }

    /// Tells watchers that an entry changed.
    pub(crate) fn tell(&self, parent: InodeId, name: &str, old: Option<InodeId>) {
        let name = Some(Name::new(name).unwrap());
        drop(self.0.events.send(Event::Entry {
            parent,
            name,
            old,
            own: false,
            same: false,
            awaited: Awaited::default(),
        }));
    }

    fn remove_silently(&self, parent: InodeId, name: &str) -> Option<InodeId> {
        let mut state = self.state();
        let inode = state.nodes.get_mut(&parent).unwrap().children.remove(&Name::new(name).unwrap())?;
        if state.nodes.values().any(|node| node.children.values().any(|child| *child == inode)) {
            let node = state.nodes.get_mut(&inode)?;
            Arc::make_mut(&mut node.attr).nlink -= 1;
            return Some(inode);
        }
        if let Some(file) = state.nodes.remove(&inode)?.file {
            state.replaced.insert(inode, file);
        }
        Some(inode)
    }

    fn add(&self, parent: InodeId, name: &str, kind: FileKind, data: &[u8]) -> InodeId {
        let mut state = self.state();
        state.last += 1;
        let inode = InodeId(state.last);
        let attr = attr(inode, parent, kind, data.len() as u64);
        let file = (kind == FileKind::File).then(|| FakeFile::new(Arc::clone(&attr), data.to_vec()));
        state.nodes.insert(inode, Node { attr, children: BTreeMap::new(), file });
        state.nodes.get_mut(&parent).unwrap().children.insert(Name::new(name).unwrap(), inode);
        inode
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn warm(&self) -> bool {
        self.0.knobs.warm.load(Ordering::SeqCst)
    }

    fn valid_until(&self) -> Instant {
        Instant::now() + *self.0.knobs.validity.lock().unwrap()
    }

    fn found(&self, attr: Option<Arc<Attr>>) -> Lookup {
        Lookup { attr, valid_until: self.valid_until() }
    }

    fn child(&self, parent: InodeId, name: &[u8]) -> Option<Arc<Attr>> {
        let state = self.state();
        let inode = state.nodes.get(&parent)?.children.get(&Name::new(name).ok()?)?;
        Some(Arc::clone(&state.nodes[inode].attr))
    }

    fn edit(&self, inode: InodeId, edit: impl FnOnce(&mut Attr)) {
        edit(Arc::make_mut(&mut self.state().nodes.get_mut(&inode).unwrap().attr));
    }

    /// Gives a file a new version under its inode.
    fn commit(&self, inode: InodeId, data: Vec<u8>) -> Arc<Attr> {
        let mut state = self.state();
        state.last += 1;
        let (content, size) = (ContentId(u128::from(state.last)), data.len() as u64);
        let node = state.nodes.get_mut(&inode).unwrap();
        let attr = Arc::make_mut(&mut node.attr);
        (attr.content, attr.size, attr.version) = (Some(content), size, format!("etag-{content}"));
        node.file = Some(FakeFile::new(Arc::clone(&node.attr), data));
        Arc::clone(&node.attr)
    }

    fn attr_of(&self, inode: InodeId) -> Option<Arc<Attr>> {
        Some(Arc::clone(&self.state().nodes.get(&inode)?.attr))
    }
}

fn attr(inode: InodeId, parent: InodeId, kind: FileKind, size: u64) -> Arc<Attr> {
    let directory = kind == FileKind::Directory;
    Arc::new(Attr {
        inode,
        parent,
        mount: MountId(1),
        kind,
        mode: if directory { 0o755 } else { 0o644 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        nlink: 1,
        size,
        mtime: Timestamp(1_700_000_000_123_456_789),
        atime: None,
        own_mtime: false,
        has_xattrs: false,
        dirty: false,
        ctime: Timestamp(1_700_000_000_123_456_789),
        content: (kind == FileKind::File).then(|| ContentId(u128::from(inode.0))),
        version: if directory { String::new() } else { format!("etag-{inode}") },
    })
}

fn stale(inode: InodeId) -> Error {
    Error::new(ErrorKind::Stale, format!("inode {inode} was replaced"))
}

impl FakeFile {
    fn new(attr: Arc<Attr>, data: Vec<u8>) -> Arc<Self> {
        Arc::new(Self {
            attr,
            data,
            local: OnceLock::new(),
            flowing: watch::channel(true).0,
            asked_reads: AtomicUsize::new(0),
        })
    }
}

impl SourceFile for FakeFile {
    type Loan = Arc<File>;

    fn attr(&self) -> &Arc<Attr> {
        &self.attr
    }

    fn complete(&self) -> Option<Arc<File>> {
        self.local.get().cloned()
    }

    fn try_read_at(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        use std::os::unix::fs::FileExt as _;
        self.local.get().map(|local| local.read_at(buffer, offset).unwrap())
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.asked_reads.fetch_add(1, Ordering::SeqCst);
        drop(self.flowing.subscribe().wait_for(|flowing| *flowing).await);
        let start = usize::try_from(offset).unwrap().min(self.data.len());
        let end = start.saturating_add(len).min(self.data.len());
        Ok(Bytes::copy_from_slice(&self.data[start..end]))
    }
}

impl Loan for Arc<File> {
    fn file(&self) -> &File {
        self
    }
}
