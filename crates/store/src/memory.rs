//! What the store costs in memory, counted by the allocator of this crate's unit tests.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    path::Path,
};

use headpond_types::{ContentId, PAGE_SIZE};
use rustix::fs::{Mode, OFlags};

use crate::{
    DirConfig, PageStore, StoreConfig,
    index::{self, Record, Replay},
};

/// Counts the bytes that each thread has allocated and not freed.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn held(change: usize, grows: bool) {
    let change = isize::try_from(change).unwrap_or(0);
    // A thread that is ending may have no cell any more.
    let _ended = HELD.try_with(|held| held.set(if grows { held.get() + change } else { held.get() - change }));
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one hands everything on to the system's")]
// SAFETY: every method calls the system's allocator with the arguments it was given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        held(layout.size(), true);
        // SAFETY: the caller keeps the contract of the trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        held(layout.size(), false);
        // SAFETY: the caller keeps the contract of the trait.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Writes an index of `contents` contents of `pages` full pages each, and files of holes to go with it.
fn prepare(dir: &Path, contents: u32, pages: u32) {
    fs::create_dir_all(dir.join("pages/00")).unwrap();
    let root = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut log = index::open(&root, &Replay::Nothing).unwrap();
    let length = u64::from(pages) * PAGE_SIZE;
    for slot in 0..contents {
        let id = ContentId(u128::from(slot) * 977);
        log.append(Record::Content { slot, id, length, generation: slot }).unwrap();
        for page in 0..pages {
            log.append(Record::Page { slot, page, crc: page }).unwrap();
        }
        fs::File::create(dir.join(format!("pages/00/{id}.{slot:x}"))).unwrap().set_len(length).unwrap();
    }
}

/// Bytes that a store of these contents holds, the fixed part of an empty one included.
fn bytes_held(contents: u32, pages: u32) -> usize {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), contents, pages);
    let capacity_bytes = u64::from(contents) * u64::from(pages) * PAGE_SIZE;
    let before = HELD.get();
    let config = StoreConfig { dirs: vec![DirConfig { path: dir.path().to_owned(), capacity_bytes }] };
    let started = std::time::Instant::now();
    let store = PageStore::open(config).unwrap();
    println!("opened {contents} x {pages} pages in {:?}", started.elapsed());
    let bytes = HELD.get() - before;
    assert_eq!(store.usage().pages(), u64::from(contents) * u64::from(pages));
    usize::try_from(bytes).unwrap()
}

#[test]
fn a_page_of_a_large_content_costs_at_most_64_bytes() {
    // One content just over a power of two pages: the queues' worst growth.
    for (contents, pages) in [(1, 131_072 + 9), (50, 2000)] {
        let per_page = bytes_held(contents, pages) as f64 / f64::from(contents * pages);
        println!("{per_page:.1} bytes a page in {contents} contents of {pages} pages");
        assert!(per_page <= 64.0, "{per_page:.1}");
    }
}

#[test]
fn a_content_of_one_page_costs_at_most_250_bytes() {
    let per_content = bytes_held(8000, 1) as f64 / 8000.0;
    println!("{per_content:.1} bytes a content; {} of them the content itself", size_of::<crate::Content>() + 16);
    assert!(per_content <= 250.0, "{per_content:.1}");
}
