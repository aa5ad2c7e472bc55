//! Contents whose bytes follow from their id, and stores over temporary directories.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use headpond_store::{Content, DirConfig, PageStore, Result, StoreConfig};
use headpond_types::{ContentId, page_count, page_range};

/// A content id, spread like a hash.
pub(crate) fn id(n: u64) -> ContentId {
    ContentId(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).wrapping_add(1))
}

pub(crate) fn store(dir: &Path, mib: u64) -> PageStore {
    open(StoreConfig { dirs: vec![DirConfig { path: dir.to_owned(), capacity_bytes: mib << 20 }] }).unwrap()
}

pub(crate) fn open(config: StoreConfig) -> Result<PageStore> {
    PageStore::open(config)
}

/// The bytes that page `page` of `content` has in these tests.
pub(crate) fn bytes_of(content: &Content, page: u64) -> Vec<u8> {
    page_bytes(content.id(), content.length(), page)
}

/// Repeated with a number in it to make a page: quick without optimisation.
const BLOCK: usize = 1024;

pub(crate) fn page_bytes(id: ContentId, length: u64, page: u64) -> Vec<u8> {
    let range = page_range(page, length);
    let (high, low) = id.halves();
    let mut state = high ^ low ^ (page + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        // xorshift64: no two pages alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_le_bytes());
    }
    let length = usize::try_from(range.end - range.start).unwrap();
    let mut bytes = block.repeat(length.div_ceil(BLOCK));
    for (number, block) in (0_u32..).zip(bytes.chunks_mut(BLOCK)) {
        block[..4].copy_from_slice(&number.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn try_fill(content: &Arc<Content>, page: u64) -> Result<()> {
    let mut writer = content.page_writer(page)?;
    for chunk in bytes_of(content, page).chunks(300_000) {
        writer.write(chunk)?;
    }
    writer.commit()
}

pub(crate) fn fill(content: &Arc<Content>, page: u64) {
    try_fill(content, page).unwrap();
}

pub(crate) fn fill_all(content: &Arc<Content>) {
    for page in 0..page_count(content.length()) {
        fill(content, page);
    }
}

/// The file of `content` under the cache directory `dir`: the newest, if there are several generations.
pub(crate) fn file_of(dir: &Path, content: &Content) -> PathBuf {
    let id = content.id().to_string();
    let folder = dir.join("pages").join(&id[..2]);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.file_stem().is_some_and(|stem| *stem == *id)).max().expect("the content has a file")
}

/// Changes a byte behind the store's back.
pub(crate) fn flip_byte(dir: &Path, content: &Content, at: u64) {
    flip(&OpenOptions::new().read(true).write(true).open(file_of(dir, content)).unwrap(), at);
}

pub(crate) fn flip(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).unwrap();
}

/// Fills a page with bytes of the caller's choice.
pub(crate) fn fill_with(content: &Arc<Content>, page: u64, bytes: &[u8]) {
    let mut writer = content.page_writer(page).unwrap();
    writer.write(bytes).unwrap();
    writer.commit().unwrap();
}

/// Runs the test `victim` in a process of its own, with the directory in its environment, and kills it after `lines` lines: the number that each
/// line it wrote has behind `word`.
pub(crate) fn numbers_of_killed(victim: &str, (key, dir): (&str, &Path), word: &str, lines: usize) -> Vec<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([victim, "--exact", "--nocapture"])
        .env(key, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(std::io::Result::ok);
    let mut all: Vec<String> = said.by_ref().take(lines).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    all.extend(said);
    let number =
        |line: &String| line.strip_prefix(word).and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    all.iter().map(number).collect()
}
