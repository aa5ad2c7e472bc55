//! A file that is being written in the namespace in memory.

use std::sync::{Arc, Mutex, MutexGuard, atomic::Ordering};

use bytes::Bytes;
use headpond_client::Stretch;
use headpond_types::{Attr, Error, ErrorKind, Result};

use super::{FakeFile, FakePond};
use crate::source::SourceWriter;

/// The next version of a file.
#[derive(Debug)]
pub(crate) struct FakeWriter {
    pond: FakePond,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    attr: Arc<Attr>,
    data: Vec<u8>,
    dirty: bool,
    unlinked: bool,
}

impl FakeWriter {
    pub(super) fn new(pond: FakePond, attr: Arc<Attr>, data: Vec<u8>) -> Self {
        let dirty = attr.version.is_empty();
        Self { pond, state: Mutex::new(State { attr, data, dirty, unlinked: false }) }
    }

    pub(super) fn truncate(&self) {
        self.change(|data| data.clear());
    }

    pub(super) fn unlink(&self) {
        self.state().unlinked = true;
    }

    pub(super) fn edit(&self, edit: impl FnOnce(&mut Attr)) {
        edit(Arc::make_mut(&mut self.state().attr));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        change(&mut state.data);
        state.dirty = true;
        let size = state.data.len() as u64;
        Arc::make_mut(&mut state.attr).size = size;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl SourceWriter for FakeWriter {
    type File = FakeFile;

    fn attr(&self) -> Arc<Attr> {
        Arc::clone(&self.state().attr)
    }

    fn is_dirty(&self) -> bool {
        let state = self.state();
        state.dirty && !state.unlinked
    }

    fn try_read_at(&self, _: u64, _: &mut [u8]) -> Option<usize> {
        None
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let state = self.state();
        let start = usize::try_from(offset).unwrap().min(state.data.len());
        let end = start.saturating_add(len).min(state.data.len());
        Ok(Bytes::copy_from_slice(&state.data[start..end]))
    }

    fn try_write_at(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.change(|data| {
            data.resize(data.len().max(start + bytes.len()), 0);
            data[start..start + bytes.len()].copy_from_slice(&bytes);
        });
        Ok(())
    }

    async fn write_copied(&self, offset: u64, bytes: Bytes, from: &FakeFile) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        assert!(from.data[start..start + bytes.len()] == bytes, "it has other bytes there");
        self.pond.asked().copied.fetch_add(bytes.len(), Ordering::SeqCst);
        self.write_at(offset, bytes).await
    }

    async fn set_length(&self, length: u64) -> Result<()> {
        self.change(|data| data.resize(usize::try_from(length).unwrap(), 0));
        Ok(())
    }

    async fn next_stretch(&self, offset: u64, what: Stretch) -> Result<Option<u64>> {
        let state = self.state();
        let start = usize::try_from(offset).unwrap();
        let is_wanted = |byte: &u8| (*byte == 0) == (what == Stretch::Hole);
        let next = state.data.get(start..).and_then(|rest| Some((start + rest.iter().position(is_wanted)?) as u64));
        let at_end = (what == Stretch::Hole && start < state.data.len()).then_some(state.data.len() as u64);
        Ok(next.or(at_end))
    }

    async fn zero(&self, offset: u64, length: u64) -> Result<()> {
        self.change(|data| {
            let (start, end) = (usize::try_from(offset).unwrap(), usize::try_from(offset + length).unwrap());
            let (start, end) = (start.min(data.len()), end.min(data.len()));
            data[start..end].fill(0);
        });
        Ok(())
    }

    async fn persist(&self, _: bool) -> Result<Arc<Attr>> {
        if self.pond.0.knobs.refusing.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::StoreRefused, "the store takes nothing"));
        }
        let (inode, data) = {
            let state = self.state();
            (state.attr.inode, state.data.clone())
        };
        if self.is_dirty() {
            self.pond.0.asked.persists.fetch_add(1, Ordering::SeqCst);
            let attr = self.pond.commit(inode, data);
            let mut state = self.state();
            (state.attr, state.dirty) = (attr, false);
        }
        Ok(self.attr())
    }
}
