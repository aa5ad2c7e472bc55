//! Hard links out of and into directories that go with all below.

use headpond_types::InodeId;

use super::{Bed, ROOT, entry, file, name};
use crate::Command;

impl Bed {
    /// More entries than one command clears away, which come before "z".
    fn fill_up(&mut self, dir: InodeId) {
        for n in 0..9 {
            self.written(dir, &format!("n{n}"), &format!("d/n{n}"), 7);
        }
    }

    /// Rows below what is gone are cleared away.
    fn swept(&mut self) {
        while self.snapshot().has_remains() {
            self.effects(&Command::Sweep);
        }
    }
}

#[test]
fn a_name_below_a_directory_that_goes_is_none_any_more() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.written(ROOT, "f", "f", 5);
    let g = bed.linked(f, d, "z");
    bed.copied(g, "d/z", 5);
    bed.fill_up(d);
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] });
    assert_eq!(bed.seen("/f"), Some((f, 1)));
    assert!(bed.snapshot().has_remains(), "what lay below is there still");
    // Else it would take the place of a name that nobody finds.
    bed.remove(ROOT, "f", f);
    assert!(bed.is_gone(f));
    bed.swept();
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 1);
}

#[test]
fn what_has_its_first_name_below_a_directory_that_goes_lives_on_elsewhere() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.written(d, "z", "d/z", 5);
    bed.fill_up(d);
    let also = bed.linked(f, d, "also");
    let g = bed.linked(f, ROOT, "g");
    bed.copied(also, "d/also", 5);
    bed.copied(g, "g", 5);
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] });
    assert_eq!((bed.seen("/g"), bed.key(f)), (Some((f, 1)), "g".to_owned()));
    bed.swept();
    assert_eq!((bed.seen("/g"), bed.snapshot().has_links().expect("reads")), (Some((f, 1)), false));
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 2);
}

#[test]
fn what_is_lost_with_a_directory_leaves_the_older_objects_of_its_names() {
    let mut bed = Bed::mounted();
    let d = bed.make_directory(ROOT, "d");
    let f = bed.written(d, "z", "d/z", 5);
    bed.fill_up(d);
    let g = bed.linked(f, ROOT, "g");
    bed.copied(g, "g", 5);
    bed.commit(f, "d/z", 6);
    bed.linked(f, ROOT, "h");
    let effects = bed.upsert(ROOT, &[file("d", 9)]);
    for (text, old) in [("d", d), ("g", f), ("h", f)] {
        assert!(effects.contains(&entry(ROOT, text, Some(old))), "{text}: {effects:?}");
    }
    assert_eq!((bed.seen("/g"), bed.seen("/h")), (Some((g, 1)), None));
    assert_eq!((bed.attr(g).version, bed.all_dirty()), ("v5".to_owned(), vec![]));
    bed.swept();
    assert_eq!(bed.seen("/g"), Some((g, 1)));
}
