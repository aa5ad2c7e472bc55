//! Hard links: what names lead to, whose object is where, and what is left when a name goes.

use headpond_types::{Attr, ContentId, InodeId};

use super::{Bed, ROOT, changes::NOW, entry, file, name, refused};
use crate::{Command, Due, Effect, Outcome, Refusal, Reply, Unstored};

impl Bed {
    pub(super) fn try_link(&mut self, inode: InodeId, parent: InodeId, text: &str, due: Due) -> Outcome {
        let request = self.request();
        self.apply(&Command::Link { request, inode, parent, name: name(text), due, barrier: false, now: NOW })
    }

    /// Answers the alias.
    pub(super) fn linked(&mut self, inode: InodeId, parent: InodeId, text: &str) -> InodeId {
        assert_eq!(self.try_link(inode, parent, text, Due::Now).reply, Reply::Inode(inode));
        let found = self.snapshot().lookup(parent, &name(text)).expect("reads").expect("is there");
        found.inode
    }

    /// What clients see under a name.
    fn shown(&self, at: &str) -> Option<Attr> {
        let snapshot = self.snapshot();
        let found = self.find(at).map(|inode| snapshot.attr(inode).expect("reads").expect("is there"))?;
        snapshot.shown(found).expect("reads")
    }

    /// A name of an inode: which, and of how many names.
    pub(super) fn seen(&self, at: &str) -> Option<(InodeId, u32)> {
        self.shown(at).map(|attr| (attr.inode, attr.nlink))
    }

    /// The alias gets the object that it is to have.
    pub(super) fn copied(&mut self, alias: InodeId, key: &str, content: u64) {
        let number = self.dirty(alias).number;
        self.begin(alias, number, key, Some(content));
        self.end_persist(alias, number, key, content);
        assert!(!self.is_dirty(alias));
    }
}

#[test]
fn a_further_name_is_the_same_inode_and_gets_an_object_of_its_own() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.written(ROOT, "f", "f", 5);
    let outcome = bed.try_link(f, d, "g", Due::Now);
    assert_eq!(outcome.reply, Reply::Inode(f));
    assert_eq!(outcome.effects, [entry(d, "g", None), entry(ROOT, "f", Some(f))]);
    assert_eq!((bed.seen("/f"), bed.seen("/d/g")), (Some((f, 2)), Some((f, 2))));
    assert_eq!((bed.attr(f).ctime, bed.shown("/d/g")), (NOW, bed.shown("/f")));
    let g = bed.id("/d/g");
    let dirty = bed.dirty(g);
    assert_eq!((dirty.due, dirty.key.clone(), bed.attr(g).version.as_str()), (Due::Now, None, ""));
    bed.copied(g, "d/g", 5);
    assert_eq!((bed.key(f), bed.key(g), bed.all_dirty()), ("f".to_owned(), "d/g".to_owned(), vec![]));
    bed.reopen();
    assert_eq!((bed.seen("/f"), bed.seen("/d/g")), (Some((f, 2)), Some((f, 2))));
}

#[test]
fn what_cannot_be_linked_is_refused() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let d = bed.make_directory(ROOT, "d");
    let g = bed.linked(f, ROOT, "g");
    assert_eq!(bed.try_link(f, ROOT, "d", Due::Now), refused(Refusal::Exists(name("d"))));
    assert_eq!(bed.try_link(d, ROOT, "h", Due::Now), refused(Refusal::IsDirectory(name("d"))));
    assert_eq!(bed.try_link(g, ROOT, "h", Due::Now), refused(Refusal::Gone(g)), "aliases are nobody's to name");
    assert_eq!(bed.try_link(InodeId(99), ROOT, "h", Due::Now), refused(Refusal::Gone(InodeId(99))));
    bed.mount("/other");
    let other = bed.id("/other");
    assert_eq!(bed.try_link(f, other, "h", Due::Now), refused(Refusal::CrossMount(name("f"), name("h"))));
    for n in 1..crate::links::MAX {
        bed.linked(f, ROOT, &format!("l{n}"));
    }
    assert_eq!(bed.try_link(f, ROOT, "h", Due::Now), refused(Refusal::TooManyLinks(name("f"))));
}

#[test]
fn each_new_content_is_to_be_copied_after_it_is_stored() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    let outcome = bed.commit(f, "f", 6);
    assert_eq!(outcome.effects, [entry(ROOT, "f", Some(f)), entry(ROOT, "g", Some(f))]);
    assert!(bed.is_dirty(g));
    bed.copied(g, "g", 6);
    let number = bed.commit_dirty(f, 7, Due::Now);
    assert!(bed.dirty(g).number > number, "it waits for the file");
    let again = bed.commit_dirty(f, 8, Due::Now);
    assert!(bed.dirty(g).number > again);
    assert_eq!(bed.all_dirty().len(), 2);
    // What was changed before the copy was made, and again after something that both wait for.
    let number = bed.begun(f, "f");
    bed.end_persist(f, number, "f", 8);
    bed.commit_dirty(f, 9, Due::Now);
    assert!(bed.dirty(g).since >= bed.dirty(f).since, "{:?} {:?}", bed.dirty(g), bed.dirty(f));
}

#[test]
fn a_name_that_goes_leaves_the_others() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    let outcome = bed.remove(ROOT, "g", g);
    assert_eq!(outcome, Outcome { reply: Reply::Done, effects: vec![entry(ROOT, "g", Some(f))] });
    assert_eq!((bed.seen("/f"), bed.seen("/g")), (Some((f, 1)), None));
    assert!(!bed.snapshot().has_links().expect("reads"));
    assert_eq!(bed.remove(ROOT, "f", f).reply, Reply::Done);
    assert!(bed.is_gone(f));
}

#[test]
fn an_inode_that_loses_its_own_name_takes_over_the_object_of_another() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    let outcome = bed.remove(ROOT, "f", f);
    assert_eq!(outcome.reply, Reply::Done);
    assert!(outcome.effects.contains(&entry(ROOT, "f", Some(f))), "{outcome:?}");
    assert_eq!((bed.seen("/f"), bed.seen("/g"), bed.id("/g")), (None, Some((f, 1)), f));
    assert_eq!((bed.key(f), bed.attr(f).version, bed.relocations()), ("g".to_owned(), "v5".to_owned(), vec![]));
    let orphan = bed.orphan("f").expect("the object under the old name is to go");
    assert_eq!(orphan.replaces.as_deref(), Some("v5"));
    assert!(bed.is_gone(g));
}

#[test]
fn an_inode_that_loses_its_own_name_before_it_was_copied_is_renamed() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    bed.linked(f, ROOT, "g");
    assert_eq!(bed.remove(ROOT, "f", f).reply, Reply::Done);
    assert_eq!((bed.seen("/f"), bed.seen("/g"), bed.id("/g")), (None, Some((f, 1)), f));
    assert_eq!((bed.key(f), bed.all_dirty()), ("f".to_owned(), vec![]));
    let relocation = bed.relocation_of(f).expect("its object is to be moved");
    assert_eq!(bed.moved(relocation, f, "v5", "g", "w5").reply, Reply::Moved(vec![]));
    assert_eq!(bed.key(f), "g");
}

#[test]
fn an_inode_that_loses_its_own_name_while_it_is_copied_has_the_copy_or_makes_another() {
    for is_handed_over in [true, false] {
        let mut bed = Bed::mounted();
        let f = bed.written(ROOT, "f", "f", 5);
        let g = bed.linked(f, ROOT, "g");
        let number = bed.dirty(g).number;
        bed.begin(g, number, "g", Some(5));
        assert_eq!(bed.remove(ROOT, "f", f).reply, Reply::Done);
        assert_eq!((bed.seen("/f"), bed.seen("/g"), bed.id("/g")), (None, Some((f, 1)), f));
        let orphan = bed.orphan("g").expect("nobody's, as long as it is not known to be there");
        assert_eq!((orphan.put, orphan.replaces), (vec![ContentId(5)], None));
        let relocation = bed.relocation_of(f).expect("its object is to be there");
        bed.end_persist(g, number, "g", 5);
        assert!(bed.is_gone(g) && bed.orphan("g").is_some(), "that name is not that one's any more");
        if !is_handed_over {
            bed.end_persist(orphan.inode, orphan.number, "g", 5);
        }
        assert_eq!(bed.moved(relocation, f, "v5", "g", "w5").reply, Reply::Moved(vec![]));
        assert_eq!((bed.key(f), bed.attr(f).version, bed.orphan("g")), ("g".to_owned(), "w5".to_owned(), None));
    }
}

#[test]
fn a_rename_between_two_names_of_an_inode_does_nothing() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    bed.linked(f, ROOT, "g");
    for (from, to) in [("f", "g"), ("g", "f")] {
        let outcome = bed.try_rename((ROOT, from), (ROOT, to));
        assert_eq!(outcome, Outcome { reply: Reply::Renamed(None), effects: vec![] });
    }
    assert_eq!((bed.seen("/f"), bed.seen("/g")), (Some((f, 2)), Some((f, 2))));
}

#[test]
fn what_is_renamed_over_a_name_takes_that_name_only() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    let one = bed.written(ROOT, "one", "one", 1);
    bed.rename((ROOT, "one"), (ROOT, "g"));
    assert_eq!((bed.seen("/g"), bed.seen("/f")), (Some((one, 1)), Some((f, 1))));
    bed.linked(f, ROOT, "h");
    let two = bed.written(ROOT, "two", "two", 2);
    assert!(matches!(bed.try_rename((ROOT, "two"), (ROOT, "f")).reply, Reply::Renamed(Some(_))));
    assert_eq!((bed.seen("/f"), bed.seen("/h")), (Some((two, 1)), Some((f, 1))));
}

#[test]
fn both_names_are_renamed_on_their_own() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    let relocation = bed.rename((ROOT, "g"), (d, "g"));
    assert_eq!((bed.seen("/d/g"), bed.key(g)), (Some((f, 2)), "g".to_owned()));
    assert_eq!(bed.moved(relocation, g, "v5", "d/g", "w5").reply, Reply::Moved(vec![]));
    bed.end(relocation);
    bed.rename((ROOT, "f"), (ROOT, "e"));
    assert_eq!((bed.seen("/e"), bed.seen("/d/g")), (Some((f, 2)), Some((f, 2))));
}

#[test]
fn what_is_linked_out_of_a_temporary_name_is_put_once() {
    let mut bed = Bed::mounted();
    let f = bed.made_dirty(ROOT, "f", 5, Due::WhenRenamed);
    let before = bed.dirty(f).number;
    assert_eq!(bed.try_link(f, ROOT, "g", Due::Now).reply, Reply::Inode(f));
    assert_eq!((bed.id("/g"), bed.seen("/f"), bed.seen("/g")), (f, Some((f, 2)), Some((f, 2))));
    let alias = bed.id("/f");
    assert_eq!((bed.dirty(f).due, bed.dirty(alias).due), (Due::Now, Due::WhenRenamed));
    assert!(bed.dirty(f).number > before);
    assert_eq!(bed.remove(ROOT, "f", alias).reply, Reply::Done);
    let left = bed.all_dirty();
    assert_eq!((left.len(), left[0].inode, left[0].due), (1, f, Due::Now));
    assert_eq!((bed.orphan("f"), bed.relocations()), (None, vec![]));
}

#[test]
fn a_file_without_a_version_is_copied_once_it_has_one() {
    let mut bed = Bed::mounted();
    let f = bed.create(ROOT, "f");
    let g = bed.linked(f, ROOT, "g");
    assert_eq!(bed.dirty(g).due, Due::Never);
    assert_eq!(bed.commit(f, "f", 5).reply, Reply::Inode(f));
    assert_eq!(bed.dirty(g).due, Due::Now);
    let lost = bed.create(ROOT, "lost");
    bed.linked(lost, ROOT, "also");
    bed.effects(&Command::Discard { inode: lost });
    assert_eq!((bed.seen("/lost"), bed.seen("/also")), (None, None), "without its writer all of it goes");
    assert!(!bed.snapshot().list(ROOT, None, 99).expect("lists").is_empty());
}

#[test]
fn an_object_that_is_changed_outside_is_a_file_of_its_own() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    assert_eq!(bed.upsert(ROOT, &[file("g", 9)]), [], "what is to be copied there is not in the store yet");
    bed.copied(g, "g", 5);
    let effects = bed.upsert(ROOT, &[file("g", 9)]);
    let new = bed.id("/g");
    assert_eq!(effects, [entry(ROOT, "g", Some(f))]);
    assert_eq!((bed.seen("/f"), bed.seen("/g")), (Some((f, 1)), Some((new, 1))));
    assert!(new != g && bed.attr(new).content == Some(ContentId(9)));
}

#[test]
fn an_inode_whose_own_object_is_lost_outside_lives_on() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    let h = bed.linked(f, ROOT, "h");
    bed.copied(g, "g", 5);
    bed.copied(h, "h", 5);
    let effects = bed.upsert(ROOT, &[file("f", 9)]);
    let new = bed.id("/f");
    assert!(effects.contains(&entry(ROOT, "f", Some(f))), "{effects:?}");
    assert_eq!((bed.seen("/f"), bed.seen("/g"), bed.seen("/h")), (Some((new, 1)), Some((f, 2)), Some((f, 2))));
    assert_eq!((bed.id("/g"), bed.key(f)), (f, "g".to_owned()));
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("g"), f)] });
    assert_eq!((bed.seen("/g"), bed.seen("/h"), bed.id("/h")), (None, Some((f, 1)), f));
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("h"), f)] });
    assert!(bed.is_gone(f));
}

#[test]
fn without_any_object_of_its_content_an_inode_goes() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    bed.commit(f, "f", 6);
    bed.linked(f, ROOT, "h");
    let effects: Vec<Effect> = bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("f"), f)] });
    for text in ["f", "g", "h"] {
        assert!(effects.contains(&entry(ROOT, text, Some(f))), "{text}: {effects:?}");
    }
    assert_eq!((bed.seen("/f"), bed.seen("/h")), (None, None));
    assert_eq!((bed.seen("/g"), bed.attr(g).version), (Some((g, 1)), "v5".to_owned()), "what the store has of it");
    assert_eq!(bed.all_dirty(), []);
}

#[test]
fn names_that_go_with_the_object_of_another_are_counted() {
    for seen in [None, Some(file("f", 9))] {
        let mut bed = Bed::mounted();
        let d = bed.make_directory(ROOT, "d");
        let f = bed.written(d, "f", "d/f", 5);
        bed.linked(f, d, "g");
        match &seen {
            None => drop(bed.effects(&Command::Forget { dir: d, entries: vec![(name("f"), f)] })),
            Some(other) => drop(bed.upsert(d, std::slice::from_ref(other))),
        }
        bed.effects(&Command::MarkListed { dir: d, at: NOW, skipped: 0 });
        let listed = bed.snapshot().listed(d).expect("reads").expect("was listed");
        assert_eq!(listed.entries, bed.names(d).len() as u64, "{seen:?}");
    }
}

#[test]
fn what_no_store_holds_has_further_names_as_well() {
    let mut bed = Bed::mounted();
    let request = bed.request();
    let what = Unstored::Symlink(b"x".to_vec());
    let owner = super::changes::OWNER;
    let made = bed.apply(&Command::MakeUnstored { request, parent: ROOT, name: name("s"), owner, what, now: NOW });
    let Reply::Inode(s) = made.reply else { panic!("{made:?}") };
    let d = bed.make_directory(ROOT, "d");
    bed.linked(s, d, "t");
    assert_eq!((bed.seen("/s"), bed.seen("/d/t"), bed.all_dirty()), (Some((s, 2)), Some((s, 2)), vec![]));
    assert!(bed.snapshot().holds_unstored(d).expect("reads"));
    assert_eq!(bed.remove(ROOT, "s", s).reply, Reply::Done);
    assert_eq!((bed.seen("/s"), bed.seen("/d/t"), bed.relocations()), (None, Some((s, 1)), vec![]));
    assert_eq!(bed.remove(d, "t", s).reply, Reply::Done);
    assert!(!bed.snapshot().holds_unstored(d).expect("reads"));
}

#[test]
fn a_further_name_of_what_no_store_holds_is_renamed() {
    let mut bed = Bed::mounted();
    let request = bed.request();
    let owner = super::changes::OWNER;
    let made = bed.apply(&Command::MakeUnstored {
        request,
        parent: ROOT,
        name: name("s"),
        owner,
        what: Unstored::Fifo,
        now: NOW,
    });
    let Reply::Inode(s) = made.reply else { panic!("{made:?}") };
    bed.linked(s, ROOT, "t");
    assert_eq!(bed.try_rename((ROOT, "t"), (ROOT, "u")).reply, Reply::Renamed(None));
    assert_eq!((bed.seen("/s"), bed.seen("/t"), bed.seen("/u")), (Some((s, 2)), None, Some((s, 2))));
}

#[test]
fn names_in_a_mount_that_goes_go_with_it() {
    let mut bed = Bed::mounted();
    let f = bed.written(ROOT, "f", "f", 5);
    bed.linked(f, ROOT, "g");
    bed.unmount("/");
    while bed.snapshot().has_remains() {
        bed.effects(&Command::Sweep);
    }
    assert!(!bed.snapshot().has_links().expect("reads"));
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 1);
}
