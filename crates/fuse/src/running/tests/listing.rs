//! Directories.

use std::{collections::BTreeSet, fs, sync::atomic::Ordering};

use headpond_types::InodeId;

use super::*;

fn fill(source: &FakePond, count: usize) -> BTreeSet<String> {
    let names: BTreeSet<String> = (0..count).map(|n| format!("entry-{n:06}")).collect();
    for name in &names {
        source.file(InodeId::ROOT, name, b"x");
    }
    names
}

fn list(pond: &Pond) -> std::io::Result<Vec<String>> {
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().into_string().expect("text"));
    fs::read_dir(pond.path(""))?.map(name).collect()
}

#[test]
fn ten_thousand_entries_are_listed_once_each_and_again_by_the_kernel() {
    let source = FakePond::new();
    let names = fill(&source, 10_000);
    source.set_page(777);
    for warm in [true, false] {
        source.set_warm(warm);
        let pond = Pond::mount(&source);
        let before = source.asked().lists.load(Ordering::SeqCst);
        let found = list(&pond).expect("listable");
        assert_eq!(found.len(), names.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), names);
        assert_eq!(source.asked().lists.load(Ordering::SeqCst), before + 1);
        // It may drop what it has whenever it likes, but not each time.
        let has_it = (0..3).any(|_| {
            let before = source.asked().lists.load(Ordering::SeqCst);
            assert_eq!(list(&pond).expect("listable").len(), names.len());
            source.asked().lists.load(Ordering::SeqCst) == before
        });
        assert!(has_it, "the kernel has the listing");
    }
}

#[test]
fn attributes_come_with_the_listing() {
    let source = FakePond::new();
    fill(&source, 500);
    source.set_warm(false);
    let pond = Pond::mount(&source);
    for entry in fs::read_dir(pond.path("")).expect("listable") {
        assert_eq!(entry.expect("an entry").metadata().expect("attributes").len(), 1);
    }
    let asked = source.asked().lookups.load(Ordering::SeqCst);
    assert!(asked < 250, "{asked} of 500 names were looked up one by one");
}

#[test]
fn a_listing_that_breaks_is_an_error_and_not_a_shorter_directory() {
    let source = FakePond::new();
    let names = fill(&source, 3000);
    source.set_page(100);
    let pond = Pond::mount(&source);
    for break_after in [0, 1, 1500, 2999] {
        source.set_break_after(break_after);
        assert_eq!(errno(list(&pond)), Some(libc::EIO), "broken after {break_after}");
    }
    assert_eq!(list(&pond).expect("listable").len(), names.len());
}

#[test]
fn a_changed_directory_is_listed_anew() {
    let source = FakePond::new();
    fill(&source, 10);
    let pond = Pond::mount(&source);
    assert_eq!(list(&pond).expect("listable").len(), 10);
    source.file(InodeId::ROOT, "new", b"x");
    source.tell(InodeId::ROOT, "new", None);
    pond.wait_for_invalidations(1);
    assert_eq!(list(&pond).expect("listable").len(), 11);
}

#[test]
fn an_expired_listing_is_asked_for_again() {
    let source = FakePond::new();
    fill(&source, 10);
    source.set_validity(Duration::ZERO);
    let pond = Pond::mount(&source);
    assert_eq!(list(&pond).expect("listable").len(), 10);
    source.file(InodeId::ROOT, "new", b"x");
    assert_eq!(list(&pond).expect("listable").len(), 11);
}

#[test]
fn a_rewound_directory_starts_over_and_a_sought_one_goes_on() {
    let source = FakePond::new();
    let names = fill(&source, 5000);
    source.set_page(300);
    source.set_validity(Duration::ZERO);
    let pond = Pond::mount(&source);
    let mut dir = rustix::fs::Dir::new(fs::File::open(pond.path("")).expect("it opens")).expect("a directory");
    let read = |dir: &mut rustix::fs::Dir, count: usize| -> Vec<(String, i64)> {
        let entry = |entry: rustix::io::Result<rustix::fs::DirEntry>| {
            let entry = entry.expect("an entry");
            (entry.file_name().to_str().expect("text").to_owned(), entry.offset())
        };
        dir.by_ref().take(count).map(entry).collect()
    };
    let all = read(&mut dir, usize::MAX);
    assert_eq!(all.len(), names.len() + 2);
    assert_eq!((all[0].0.as_str(), all[1].0.as_str()), (".", ".."));
    dir.rewind();
    assert_eq!(read(&mut dir, 2500), all[..2500]);
    let Some((_, offset)) = all.get(99) else { panic!("there are more") };
    dir.seek(*offset).expect("seekable");
    assert_eq!(read(&mut dir, usize::MAX), all[100..]);
}

#[test]
fn odd_and_long_names_are_listed_and_found() {
    let source = FakePond::new();
    let long = "x".repeat(255);
    let names = ["-rf", " ", "a\nb", "ünï", "a,b\\c", &long];
    for name in names {
        source.file(InodeId::ROOT, name, name.as_bytes());
    }
    let pond = Pond::mount(&source);
    let found: BTreeSet<String> = list(&pond).expect("listable").into_iter().collect();
    assert_eq!(found, names.iter().map(ToString::to_string).collect());
    for name in names {
        assert_eq!(fs::read(pond.path(name)).expect("readable"), name.as_bytes());
    }
    source.set_warm(false);
    assert_eq!(errno(fs::metadata(pond.path(&"y".repeat(256)))), Some(libc::ENAMETOOLONG));
}
