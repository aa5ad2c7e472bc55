use std::sync::Mutex;

use bytes::Bytes;
use futures::stream;
use headpond_types::{ContentId, FileKind, InodeId, MountId, Timestamp};

use super::*;

/// A listing of `count` entries in pages of `page`.
fn listing(count: u64, page: usize, starts: &Mutex<Vec<Option<Name>>>) -> impl Begin + '_ {
    let attr = Arc::new(Attr {
        inode: InodeId(2),
        parent: InodeId(1),
        mount: MountId(1),
        kind: FileKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        size: 0,
        mtime: Timestamp(0),
        atime: None,
        own_mtime: false,
        has_xattrs: false,
        dirty: false,
        ctime: Timestamp(0),
        content: Some(ContentId(1)),
        version: String::new(),
    });
    move |after: Option<Name>| {
        starts.lock().unwrap().push(after.clone());
        let after = after.map(|name| name.as_bytes().to_vec());
        let entry = |n| ListEntry { name: Bytes::from(name(n)), attr: Arc::clone(&attr) };
        let entries: Vec<_> =
            (0..count).map(entry).filter(|entry| after.as_ref().is_none_or(|after| entry.name > *after)).collect();
        let valid_until = Instant::now();
        let pages: Vec<Result<ListPage>> = entries
            .chunks(page)
            .map(|entries| Ok(ListPage { directory: None, entries: entries.to_vec(), valid_until, skipped: 0 }))
            .collect();
        stream::iter(pages).boxed()
    }
}

fn name(n: u64) -> String {
    format!("{n:05}")
}

/// What one question of the kernel at `offset` with room for `room` entries gets: names, and the offset after the last.
async fn ask(lister: &mut Lister, begin: &mut impl Begin, offset: u64, room: usize) -> (Vec<String>, u64) {
    lister.receive(offset, begin).await.expect("the listing does not break");
    let (mut names, mut next) = (Vec::new(), offset);
    let mut fill = |item: Item<'_>, after: u64| {
        if names.len() == room {
            return ControlFlow::Break(());
        }
        names.push(match item {
            Item::This => ".".to_owned(),
            Item::Above => "..".to_owned(),
            Item::Entry(name, ..) => String::from_utf8_lossy(name).into_owned(),
        });
        next = after;
        ControlFlow::Continue(())
    };
    assert!(lister.hand_out(offset, &mut fill));
    (names, next)
}

#[tokio::test]
async fn every_entry_is_handed_out_once_whatever_the_room() {
    for room in [1, 2, 3, 7, 1000] {
        let starts = Mutex::default();
        let (mut lister, mut begin) = (Lister::default(), listing(50, 8, &starts));
        let (mut all, mut offset) = (Vec::new(), 0);
        loop {
            let (names, next) = ask(&mut lister, &mut begin, offset, room).await;
            if names.is_empty() {
                break;
            }
            all.extend(names);
            offset = next;
        }
        let expected: Vec<_> = [".".to_owned(), "..".to_owned()].into_iter().chain((0..50).map(name)).collect();
        assert_eq!(all, expected);
        assert_eq!(starts.lock().unwrap().len(), 1);
        assert!(lister.whole_until().is_some());
    }
}

#[tokio::test]
async fn the_window_stays_small_and_what_did_not_fit_is_still_there() {
    let starts = Mutex::default();
    let (mut lister, mut begin) = (Lister::default(), listing(10_000, 100, &starts));
    let mut offset = 0;
    for _ in 0..200 {
        let (names, next) = ask(&mut lister, &mut begin, offset, 60).await;
        // The caller's own buffer takes only a part of what it was given.
        offset = offset.midpoint(next);
        assert!(!names.is_empty());
        assert!(lister.window.len() <= 200, "{}", lister.window.len());
    }
    assert_eq!(starts.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn going_back_starts_at_the_page_and_gives_the_same_entries() {
    let starts = Mutex::default();
    let (mut lister, mut begin) = (Lister::default(), listing(1000, 100, &starts));
    ask(&mut lister, &mut begin, 900, 10).await;
    let (names, next) = ask(&mut lister, &mut begin, 2 + 250, 3).await;
    assert_eq!((names, next), (vec![name(250), name(251), name(252)], 2 + 253));
    assert_eq!(*starts.lock().unwrap(), [None, Some(Name::new(name(199)).unwrap())]);
    let (names, _) = ask(&mut lister, &mut begin, 0, 3).await;
    assert_eq!(names, [".", "..", "00000"]);
    assert_eq!(starts.lock().unwrap().len(), 3);
    assert!(lister.whole_until().is_none());
}

#[tokio::test]
async fn after_an_error_the_listing_goes_on_where_it_broke() {
    let mut calls = 0;
    let starts = Mutex::default();
    let mut whole = listing(30, 10, &starts);
    let mut begin = |after: Option<Name>| {
        calls += 1;
        let pages = whole(after);
        if calls > 1 {
            return pages;
        }
        let broken = stream::iter([Err(Error::new(ErrorKind::Unavailable, "503"))]);
        pages.take(2).chain(broken).boxed()
    };
    let mut lister = Lister::default();
    let (names, next) = ask(&mut lister, &mut begin, 0, 22).await;
    assert_eq!(names.len(), 12);
    let (names, next) = ask(&mut lister, &mut begin, next, 22).await;
    assert_eq!(names.len(), 10);
    assert!(lister.receive(next, &mut begin).await.is_err());
    let (names, next) = ask(&mut lister, &mut begin, next, 22).await;
    assert_eq!((names.first(), names.len(), next), (Some(&name(20)), 10, 32));
    assert!(ask(&mut lister, &mut begin, next, 22).await.0.is_empty());
    assert!(lister.whole_until().is_none(), "two runs have no common validity");
}
