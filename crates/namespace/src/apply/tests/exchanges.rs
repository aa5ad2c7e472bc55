//! Two names that are exchanged.

use headpond_types::InodeId;

use super::{Bed, ROOT, changes::NOW, dir, entry, file, file_at, name, refused};
use crate::{Command, Outcome, Refusal, Reply};

impl Bed {
    fn try_exchange(&mut self, one: (InodeId, &str), other: (InodeId, &str)) -> Outcome {
        let (one, other) = ((one.0, name(one.1)), (other.0, name(other.1)));
        let (released, barriers) = ((false, false), (false, false));
        let request = self.request();
        self.apply(&Command::Exchange { request, one, other, released, barriers, leaves: vec![], now: NOW })
    }

    /// Answers the relocation of what `one` led to.
    fn exchange(&mut self, one: (InodeId, &str), other: (InodeId, &str)) -> u64 {
        let outcome = self.try_exchange(one, other);
        let Reply::Renamed(Some(relocation)) = outcome.reply else { panic!("{outcome:?}") };
        relocation
    }
}

/// `/a/f` and `/b`, from the store.
fn stocked() -> (Bed, InodeId, InodeId, InodeId) {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("a"), dir("b"), file("g", 2)]);
    let a = bed.id("/a");
    bed.upsert(a, &[file_at("f", 1, 10)]);
    let (b, f) = (bed.id("/b"), bed.id("/a/f"));
    (bed, a, b, f)
}

#[test]
fn a_file_and_a_directory_change_places_and_their_objects_follow() {
    let (mut bed, a, b, f) = stocked();
    let outcome = bed.try_exchange((a, "f"), (ROOT, "b"));
    assert_eq!(outcome.effects, [entry(a, "f", Some(f)), entry(ROOT, "b", Some(b))]);
    assert_eq!((bed.id("/b"), bed.id("/a/f")), (f, b));
    assert_eq!((bed.names(a), bed.names(ROOT)), (vec!["f".to_owned()], ["a", "b", "g"].map(str::to_owned).to_vec()));
    assert_eq!((bed.key(f), bed.key(b)), ("a/f".to_owned(), "b".to_owned()));
    assert_eq!((bed.attr(f).ctime, bed.attr(b).ctime, bed.attr(a).mtime), (NOW, NOW, NOW));
    let relocations = bed.relocations();
    let moved: Vec<_> = relocations.iter().map(|relocation| (relocation.inode, relocation.from.clone())).collect();
    assert_eq!(moved, [(f, b"a/f".to_vec()), (b, b"b/".to_vec())]);
    assert!(bed.masks(a, "f") && bed.masks(ROOT, "b"));
}

#[test]
fn exchanged_twice_they_are_where_they_were() {
    let (mut bed, a, b, _) = stocked();
    let first = bed.exchange((ROOT, "a"), (ROOT, "b"));
    let second = bed.exchange((ROOT, "a"), (ROOT, "b"));
    assert!(second > first);
    assert_eq!((bed.id("/a"), bed.id("/b")), (a, b));
    assert_eq!((bed.key(a), bed.key(b)), ("a".to_owned(), "b".to_owned()));
    assert_eq!(bed.relocations().len(), 2);
}

#[test]
fn a_link_and_a_file_need_one_relocation() {
    let (mut bed, a, _, f) = stocked();
    let link = bed.link(ROOT, "l", "x");
    bed.exchange((a, "f"), (ROOT, "l"));
    assert_eq!((bed.id("/l"), bed.id("/a/f")), (f, link));
    assert_eq!(bed.relocations().len(), 1);
}

#[test]
fn what_cannot_be_exchanged_is_refused() {
    let (mut bed, a, _, f) = stocked();
    assert_eq!(bed.try_exchange((a, "f"), (ROOT, "c")), refused(Refusal::NoEntry(name("c"))));
    assert_eq!(bed.try_exchange((ROOT, "c"), (a, "f")), refused(Refusal::NoEntry(name("c"))));
    assert_eq!(bed.try_exchange((ROOT, "a"), (a, "f")), refused(Refusal::IntoItself(name("a"))));
    assert_eq!(bed.try_exchange((a, "f"), (ROOT, "a")), refused(Refusal::IntoItself(name("a"))));
    assert_eq!(bed.try_exchange((a, "f"), (a, "f")).reply, Reply::Renamed(None));
    assert_eq!(bed.try_exchange((f, "f"), (a, "f")), refused(Refusal::NoDirectory(name("f"))));
    assert_eq!(bed.relocations(), []);
}
