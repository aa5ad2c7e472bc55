//! What tests of changes made through Headpond say briefly.

use headpond_types::{Attr, ContentId, InodeId, RequestId, Timestamp};

use super::{Bed, entry, name};
use crate::{AttrChange, Command, MovedFile, Outcome, Owner, Relocation, Reply, Version};

/// When what tests do through Headpond is done.
pub(super) const NOW: Timestamp = Timestamp(70);
/// What the mount of [`Bed::mounted`] shows for files.
pub(super) const OWNER: Owner = Owner { mode: 0o640, uid: 7, gid: 8 };

impl Bed {
    pub(super) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    pub(super) fn try_create(&mut self, parent: InodeId, text: &str) -> Outcome {
        let request = self.request();
        self.apply(&Command::Create { request, parent, name: name(text), owner: OWNER, now: NOW })
    }

    pub(super) fn create(&mut self, parent: InodeId, text: &str) -> InodeId {
        let outcome = self.try_create(parent, text);
        let Reply::Inode(inode) = outcome.reply else { panic!("{outcome:?}") };
        assert_eq!(outcome.effects, [entry(parent, text, None)]);
        inode
    }

    pub(super) fn try_make_directory(&mut self, parent: InodeId, text: &str) -> Outcome {
        let request = self.request();
        let owner = Owner { mode: 0o750, ..OWNER };
        self.apply(&Command::MakeDirectory { request, parent, name: name(text), owner, dirty: None, now: NOW })
    }

    pub(super) fn make_directory(&mut self, parent: InodeId, text: &str) -> InodeId {
        let outcome = self.try_make_directory(parent, text);
        let Reply::Inode(inode) = outcome.reply else { panic!("{outcome:?}") };
        assert_eq!(outcome.effects, [entry(parent, text, None)]);
        inode
    }

    /// Version `v{content}`, of as many bytes, modified at 80.
    pub(super) fn commit(&mut self, inode: InodeId, key: &str, content: u64) -> Outcome {
        let version = Version {
            size: content,
            mtime: Timestamp(80),
            version: format!("v{content}"),
            content: ContentId(content.into()),
        };
        let request = self.request();
        self.apply(&Command::Commit { request, inode, key: key.as_bytes().to_vec(), version, now: NOW })
    }

    /// A file that was created and committed where its path says.
    pub(super) fn written(&mut self, parent: InodeId, text: &str, key: &str, content: u64) -> InodeId {
        let inode = self.create(parent, text);
        assert_eq!(self.commit(inode, key, content).reply, Reply::Inode(inode));
        inode
    }

    pub(super) fn remove(&mut self, parent: InodeId, text: &str, inode: InodeId) -> Outcome {
        let request = self.request();
        self.apply(&Command::Remove {
            request,
            parent,
            name: name(text),
            inode,
            later: false,
            leaves: vec![],
            marker: None,
            now: NOW,
        })
    }

    pub(super) fn try_rename(&mut self, from: (InodeId, &str), to: (InodeId, &str)) -> Outcome {
        let (from, to) = ((from.0, name(from.1)), (to.0, name(to.1)));
        let request = self.request();
        let (later, leaves, marker) = (false, vec![], None);
        let (no_replace, released, barrier) = (false, false, false);
        self.apply(&Command::Rename {
            request,
            from,
            to,
            no_replace,
            released,
            barrier,
            later,
            leaves,
            marker,
            now: NOW,
        })
    }

    /// Answers the relocation that begins.
    pub(super) fn rename(&mut self, from: (InodeId, &str), to: (InodeId, &str)) -> u64 {
        let outcome = self.try_rename(from, to);
        let Reply::Renamed(Some(relocation)) = outcome.reply else { panic!("{outcome:?}") };
        relocation
    }

    /// One file was copied to `key`, as version `version`.
    pub(super) fn moved(&mut self, relocation: u64, inode: InodeId, from: &str, key: &str, version: &str) -> Outcome {
        let key = key.as_bytes().to_vec();
        let files = vec![MovedFile { inode, from: from.to_owned(), key, version: version.to_owned() }];
        self.apply(&Command::Moved { relocation, files })
    }

    pub(super) fn end(&mut self, relocation: u64) {
        assert_eq!(self.effects(&Command::EndRelocation { relocation }), []);
    }

    pub(super) fn set_attr(&mut self, inode: InodeId, change: AttrChange) -> Outcome {
        let request = self.request();
        self.apply(&Command::SetAttr { request, inode, change, now: NOW })
    }

    pub(super) fn attr(&self, inode: InodeId) -> Attr {
        self.snapshot().attr(inode).expect("reads").unwrap_or_else(|| panic!("{inode} is gone"))
    }

    pub(super) fn is_gone(&self, inode: InodeId) -> bool {
        self.snapshot().attr(inode).expect("reads").is_none()
    }

    /// Where the under store has it.
    pub(super) fn key(&self, inode: InodeId) -> String {
        let location = self.snapshot().location(inode).expect("reads").unwrap_or_else(|| panic!("{inode} is gone"));
        String::from_utf8(location.key).expect("text")
    }

    pub(super) fn masks(&self, dir: InodeId, text: &str) -> bool {
        self.snapshot().masks(dir, &name(text)).expect("reads")
    }

    pub(super) fn relocations(&self) -> Vec<Relocation> {
        self.snapshot().relocations().expect("reads")
    }

    pub(super) fn relocation_of(&self, inode: InodeId) -> Option<u64> {
        self.snapshot().relocation_of(inode).expect("reads")
    }
}
