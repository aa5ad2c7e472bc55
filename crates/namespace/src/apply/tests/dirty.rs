//! Dirty files, from the commit on workers to the version in the under store.

use headpond_types::{ContentId, InodeId, Timestamp, WorkerId};

use super::{Bed, ROOT, changes::NOW, dir, entry, file, name, refused};
use crate::{AttrChange, Command, Dirty, Due, Effect, Outcome, PersistBegun, Refusal, Reply, Version};

impl Bed {
    pub(super) fn try_commit_dirty(&mut self, inode: InodeId, content: u64, due: Due, barrier: bool) -> Outcome {
        self.apply_dirty(inode, content, due, barrier)
    }

    fn apply_dirty(&mut self, inode: InodeId, content: u64, due: Due, barrier: bool) -> Outcome {
        let request = self.request();
        self.apply(&Command::CommitDirty {
            request,
            inode,
            size: content,
            mtime: Timestamp(60),
            content: ContentId(content.into()),
            holders: vec![WorkerId(3)],
            due,
            barrier,
            now: NOW,
        })
    }

    /// Content `content`, of as many bytes, modified at 60; answers the number.
    pub(super) fn commit_dirty(&mut self, inode: InodeId, content: u64, due: Due) -> u64 {
        assert_eq!(self.try_commit_dirty(inode, content, due, false).reply, Reply::Inode(inode));
        self.dirty(inode).number
    }

    /// A file that was created and committed on workers.
    pub(super) fn made_dirty(&mut self, parent: InodeId, text: &str, content: u64, due: Due) -> InodeId {
        let inode = self.create(parent, text);
        self.commit_dirty(inode, content, due);
        inode
    }

    pub(super) fn is_dirty(&self, inode: InodeId) -> bool {
        self.snapshot().dirty(inode).expect("reads").is_some()
    }

    pub(super) fn dirty(&self, inode: InodeId) -> Dirty {
        self.snapshot().dirty(inode).expect("reads").unwrap_or_else(|| panic!("{inode} is clean"))
    }

    pub(super) fn all_dirty(&self) -> Vec<Dirty> {
        self.snapshot().all_dirty((0, InodeId(0)), usize::MAX).expect("reads")
    }

    /// Content `content` is about to be put at `key`, or a marker.
    pub(super) fn begin(&mut self, inode: InodeId, number: u64, key: &str, content: Option<u64>) {
        let content = content.map(|content| ContentId(content.into()));
        let files = vec![PersistBegun { inode, number, key: key.as_bytes().to_vec(), content }];
        assert_eq!(self.effects(&Command::BeginPersist { files }), []);
    }

    /// Content `content` is at `key`, as version `v{content}`, of as many bytes, modified at 90.
    pub(super) fn end_persist(&mut self, inode: InodeId, number: u64, key: &str, content: u64) -> Vec<Effect> {
        let version = Version {
            size: content,
            mtime: Timestamp(90),
            version: format!("v{content}"),
            content: ContentId(content.into()),
        };
        self.effects(&Command::EndPersist { inode, number, key: key.as_bytes().to_vec(), version: Some(version) })
    }

    /// Begins to put a content where it belongs; answers the number.
    pub(super) fn begun(&mut self, inode: InodeId, key: &str) -> u64 {
        let (number, content) = (self.dirty(inode).number, self.attr(inode).content.expect("is a file"));
        self.begin(inode, number, key, Some(u64::try_from(content.0).expect("is small")));
        assert_eq!(self.dirty(inode).key, Some(key.as_bytes().to_vec()));
        number
    }

    pub(super) fn orphan(&self, key: &str) -> Option<Dirty> {
        let mount = self.snapshot().mounts().expect("reads")[0].id;
        self.snapshot().orphan_at(mount, key.as_bytes()).expect("reads")
    }
}

pub(super) fn contents(numbers: &[u128]) -> Vec<ContentId> {
    numbers.iter().copied().map(ContentId).collect()
}

#[test]
fn a_file_is_what_workers_have_and_later_the_store() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    let outcome = bed.try_commit_dirty(f, 5, Due::Now, true);
    assert_eq!(outcome, Outcome { reply: Reply::Inode(f), effects: vec![entry(ROOT, "f", Some(f))] });
    let attr = bed.attr(f);
    assert!(attr.dirty && attr.version.is_empty() && attr.own_mtime);
    assert_eq!(
        (attr.size, attr.mtime, attr.ctime, attr.content),
        (5, Timestamp(60), Timestamp(60), Some(ContentId(5)))
    );
    let dirty = bed.dirty(f);
    assert_eq!(
        (dirty.due, dirty.barrier, dirty.holders.clone(), dirty.mount),
        (Due::Now, true, vec![WorkerId(3)], attr.mount)
    );
    assert_eq!((bed.snapshot().unpersisted().expect("reads"), bed.all_dirty()), (vec![], vec![dirty.clone()]));
    assert_eq!(bed.effects(&Command::Discard { inode: f }), [], "it has no version, and is not discarded");
    let counts = bed.snapshot().counts().expect("reads");
    assert_eq!((counts.file_bytes, counts.dirty), (5, 1));

    bed.begin(f, dirty.number, "f", Some(5));
    assert_eq!(bed.dirty(f), Dirty { key: Some(b"f".to_vec()), put: contents(&[5]), ..dirty.clone() });
    bed.reopen();
    assert_eq!(bed.end_persist(f, dirty.number, "f", 5), [entry(ROOT, "f", Some(f))]);
    let after = bed.attr(f);
    assert_eq!((after.dirty, after.version.as_str(), after.mtime), (false, "v5", Timestamp(60)), "its own time");
    assert_eq!((after.size, after.content), (5, Some(ContentId(5))));
    assert_eq!((bed.is_dirty(f), bed.all_dirty(), bed.snapshot().counts().expect("reads").dirty), (false, vec![], 0));
    assert_eq!(bed.end_persist(f, dirty.number, "f", 5), [], "a second time");
}

#[test]
fn what_was_put_and_is_not_what_was_committed_is_what_the_store_has() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let number = bed.begun(f, "f");
    bed.end_persist(f, number, "f", 8);
    let attr = bed.attr(f);
    assert_eq!((attr.size, attr.mtime, attr.content, attr.dirty), (8, Timestamp(90), Some(ContentId(8)), false));
    assert_eq!(bed.snapshot().counts().expect("reads").file_bytes, 8);
}

#[test]
fn a_time_that_was_set_stays_when_it_is_persisted() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    bed.set_attr(f, AttrChange { mtime: Some(Timestamp(1)), ..AttrChange::default() });
    let number = bed.begun(f, "f");
    bed.end_persist(f, number, "f", 5);
    assert_eq!(bed.attr(f).mtime, Timestamp(1));
}

#[test]
fn a_newer_content_stays_dirty_and_replaces_what_was_put() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let first = bed.begun(f, "f");
    let second = bed.commit_dirty(f, 6, Due::Now);
    assert!(second > first);
    let dirty = bed.dirty(f);
    assert_eq!((dirty.key, dirty.put), (Some(b"f".to_vec()), contents(&[5])));
    bed.begin(f, first, "f", Some(9));
    assert_eq!(bed.dirty(f).put, contents(&[5]), "another number");
    assert_eq!(bed.end_persist(f, first, "f", 5), [entry(ROOT, "f", Some(f))]);
    let (attr, dirty) = (bed.attr(f), bed.dirty(f));
    assert_eq!((attr.version.as_str(), attr.size, attr.content, attr.dirty), ("v5", 6, Some(ContentId(6)), true));
    assert_eq!((dirty.number, dirty.key, dirty.put, dirty.replaces), (second, None, vec![], None));
    bed.begun(f, "f");
    bed.end_persist(f, second, "f", 6);
    assert_eq!((bed.attr(f).version, bed.is_dirty(f)), ("v6".to_owned(), false));
}

#[test]
fn an_end_that_comes_late_leaves_what_was_put_after_it_known() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let first = bed.begun(f, "f");
    bed.commit_dirty(f, 6, Due::Now);
    bed.begun(f, "f");
    bed.begun(f, "f");
    assert_eq!(bed.dirty(f).put, contents(&[5, 6]), "each once");
    bed.end_persist(f, first, "f", 5);
    assert_eq!((bed.dirty(f).put, bed.dirty(f).key), (contents(&[6]), Some(b"f".to_vec())));
    for content in 10..20 {
        bed.commit_dirty(f, content, Due::Now);
        bed.begun(f, "f");
    }
    assert_eq!(bed.dirty(f).put, contents(&[12, 13, 14, 15, 16, 17, 18, 19]), "the latest eight");
}

#[test]
fn a_commit_through_ends_it() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::Now);
    let number = bed.begun(f, "f");
    bed.commit(f, "f", 7);
    assert_eq!((bed.is_dirty(f), bed.attr(f).version, bed.all_dirty()), (false, "v7".to_owned(), vec![]));
    assert_eq!(bed.end_persist(f, number, "f", 5), [], "it comes too late");
    let g = bed.made_dirty(ROOT, "g", 5, Due::Now);
    bed.begun(g, "g");
    bed.commit(g, "elsewhere", 7);
    assert_eq!(bed.orphan("g").expect("is to be deleted").put, contents(&[5]));
}

#[test]
fn what_is_gone_or_no_file_is_not_committed() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    assert_eq!(bed.try_commit_dirty(d, 1, Due::Now, false), refused(Refusal::IsDirectory(name("d"))));
    assert_eq!(bed.try_commit_dirty(InodeId(99), 1, Due::Now, false), refused(Refusal::Gone(InodeId(99))));
    assert_eq!(bed.try_commit_dirty(ROOT, 1, Due::Now, false), refused(Refusal::Gone(ROOT)));
    assert_eq!(bed.all_dirty(), []);
}

#[test]
fn a_request_is_answered_once() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    let command = Command::CommitDirty {
        request: bed.request(),
        inode: f,
        size: 5,
        mtime: Timestamp(60),
        content: ContentId(5),
        holders: vec![],
        due: Due::Now,
        barrier: false,
        now: NOW,
    };
    bed.apply(&command);
    let number = bed.begun(f, "f");
    bed.end_persist(f, number, "f", 5);
    assert_eq!(bed.apply(&command), Outcome { reply: Reply::Inode(f), effects: vec![] });
    assert!(!bed.is_dirty(f));
}

#[test]
fn what_the_store_shows_changes_no_dirty_file_nor_what_holds_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), file("seen", 1)]);
    let a = bed.id("/a");
    let sub = bed.make_directory(a, "sub");
    let f = bed.made_dirty(sub, "f", 5, Due::Never);
    let seen = bed.id("/seen");
    bed.commit_dirty(seen, 6, Due::Now);
    let before = (bed.attr(f), bed.attr(seen));
    assert!(bed.snapshot().holds_unstored(a).expect("reads") && bed.snapshot().holds_unstored(sub).expect("reads"));
    for (dir, text, inode) in [(sub, "f", f), (ROOT, "seen", seen), (a, "sub", sub), (ROOT, "a", a)] {
        assert_eq!(bed.effects(&Command::Forget { dir, entries: vec![(name(text), inode)] }), []);
        assert_eq!(bed.upsert(dir, &[file(text, 9)]), []);
    }
    assert_eq!((bed.attr(f), bed.attr(seen)), before);
    let number = bed.begun(f, "a/sub/f");
    bed.end_persist(f, number, "a/sub/f", 5);
    assert!(!bed.snapshot().holds_unstored(a).expect("reads"));
    assert_eq!(bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("a"), a)] }), [entry(ROOT, "a", Some(a))]);
}

#[test]
fn due_rows_come_in_order_also_those_of_one_number() {
    let mut bed = Bed::mounted();
    let files: Vec<_> = ["a", "b", "c"].iter().map(|text| bed.made_dirty(ROOT, text, 1, Due::WhenRenamed)).collect();
    let late = bed.made_dirty(ROOT, "d", 1, Due::Now);
    let next = bed.snapshot().number();
    bed.effects(&Command::MakeDue {
        inodes: vec![(files[1], false), (files[0], true), (late, true)],
        number: Some(next),
    });
    let order: Vec<_> = bed.all_dirty().iter().map(|dirty| (dirty.inode, dirty.due, dirty.barrier)).collect();
    let now = |inode, barrier| (inode, Due::Now, barrier);
    let expected = [(files[2], Due::WhenRenamed, false), now(late, false), now(files[0], true), now(files[1], false)];
    assert_eq!(order, expected, "what was due already stays");
    let page = bed.snapshot().all_dirty((next, files[0]), 1).expect("reads");
    assert_eq!(page.iter().map(|dirty| dirty.inode).collect::<Vec<_>>(), [files[1]]);
    bed.effects(&Command::MakeDue { inodes: vec![(files[2], false)], number: None });
    assert!(bed.dirty(files[2]).number >= next);
}

#[test]
fn what_is_dropped_is_what_the_store_has() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    bed.effects(&Command::MarkListed { dir: ROOT, at: Timestamp(50), skipped: 0 });
    let f = bed.id("/f");
    let number = bed.commit_dirty(f, 5, Due::Now);
    assert_eq!(bed.effects(&Command::DropDirty { inode: f, number: number - 1 }), [], "another one");
    assert_eq!(bed.effects(&Command::DropDirty { inode: f, number }), [entry(ROOT, "f", Some(f))]);
    assert!(bed.is_gone(f) && bed.all_dirty().is_empty());
    assert_eq!(bed.snapshot().listed(ROOT).expect("reads"), None, "it is to be listed again");
    assert_eq!(bed.upsert(ROOT, &[file("f", 2)]).len(), 1);
}

#[test]
fn another_version_may_be_overwritten() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    let number = bed.commit_dirty(f, 5, Due::Now);
    let overwrite =
        |number, version: Option<&str>| Command::Overwrite { inode: f, number, version: version.map(str::to_owned) };
    assert_eq!(bed.effects(&overwrite(number - 1, Some("x"))), []);
    assert_eq!(bed.effects(&overwrite(number, Some("theirs"))), [entry(ROOT, "f", Some(f))]);
    assert_eq!((bed.attr(f).version.as_str(), bed.attr(f).size), ("theirs", 5));
    bed.effects(&overwrite(number, None));
    assert_eq!((bed.attr(f).version.as_str(), bed.dirty(f).key), ("", None));
    assert_eq!(bed.snapshot().unpersisted().expect("reads"), []);
    assert_eq!(bed.effects(&overwrite(number, Some("theirs"))), []);
    assert_eq!((bed.dirty(f).replaces, bed.dirty(f).key), (Some("theirs".to_owned()), Some(b"f".to_vec())));
}

#[test]
fn what_goes_with_its_mount_is_not_dirty() {
    let mut bed = Bed::mounted();
    bed.mount("/m");
    let m = bed.id("/m");
    let f = bed.made_dirty(m, "f", 5, Due::Now);
    let g = bed.made_dirty(m, "g", 5, Due::Now);
    bed.begun(g, "g");
    bed.remove(m, "g", g);
    assert_eq!(bed.all_dirty().len(), 2, "one is an orphan");
    bed.unmount("/m");
    assert!(bed.all_dirty().is_empty() && !bed.is_dirty(f));
    bed.effects(&Command::Sweep);
    assert_eq!(bed.snapshot().counts().expect("reads").dirty, 0);
}

#[test]
fn what_is_dropped_while_it_moves_masks_its_new_name_too() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    let number = bed.commit_dirty(f, 5, Due::Now);
    bed.rename((ROOT, "f"), (ROOT, "g"));
    bed.effects(&Command::DropDirty { inode: f, number });
    assert!(bed.masks(ROOT, "f") && bed.masks(ROOT, "g"));
}

#[test]
fn what_is_to_be_put_where_nothing_is_goes_where_its_path_says() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 1);
    let number = bed.commit_dirty(f, 5, Due::Now);
    let relocation = bed.rename((ROOT, "f"), (ROOT, "g"));
    bed.effects(&Command::Overwrite { inode: f, number, version: None });
    assert_eq!(bed.key(f), "g");
    bed.end(relocation);
    bed.begun(f, "g");
    bed.end_persist(f, number, "g", 5);
    assert_eq!((bed.key(f), bed.relocations()), ("g".to_owned(), vec![]));
}

#[test]
fn what_lies_below_what_is_gone_changes_no_more() {
    let mut bed = Bed::mounted();
    bed.mount("/m");
    let (m, mut files) = (bed.id("/m"), Vec::new());
    for text in ["a", "b", "c", "d", "e", "f"] {
        files.push(bed.made_dirty(m, text, 5, Due::WhenRenamed));
    }
    let rows = files.iter().map(|file| bed.dirty(*file)).collect::<Vec<_>>();
    bed.unmount("/m");
    // The first ones are cleared away already.
    for Dirty { inode, number, .. } in rows.into_iter().rev() {
        assert_eq!(bed.end_persist(inode, number, "f", 5), []);
        bed.effects(&Command::MakeDue { inodes: vec![(inode, false)], number: None });
        assert_eq!(bed.effects(&Command::DropDirty { inode, number }), []);
    }
    assert_eq!(bed.relocations(), []);
}
