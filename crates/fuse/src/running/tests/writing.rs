//! Writing.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::ffi::OsStrExt as _,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    sync::atomic::Ordering,
};

use headpond_types::InodeId;
use rustix::fs::{FallocateFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::*;

const ROOT: InodeId = InodeId::ROOT;

fn persists(source: &FakePond) -> usize {
    source.asked().persists.load(Ordering::SeqCst)
}

#[test]
fn a_file_that_is_closed_is_in_the_store() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    let data: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    let options = OpenOptions::new().write(true).create_new(true).mode(0o640).clone();
    let mut file = options.open(&path).expect("made");
    file.write_all(&data).expect("written");
    assert_eq!(file.metadata().expect("attributes").len(), 3_000_000);
    assert_eq!(fs::metadata(&path).expect("attributes").len(), 3_000_000, "others on this mount see it grow");
    assert_eq!(source.stored(ROOT, "f"), b"");
    drop(file);
    assert_eq!(source.stored(ROOT, "f"), data);
    let found = fs::metadata(&path).expect("attributes");
    assert_eq!((found.len(), found.mode() & 0o7777), (3_000_000, 0o640));
    assert_eq!(fs::read(&path).expect("readable"), data);
    assert_eq!(errno(options.open(&path)), Some(libc::EEXIST));
    let listed: Vec<_> =
        fs::read_dir(pond.path("")).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(listed, ["f"]);
}

#[test]
fn an_empty_file_is_in_the_store_and_what_is_not_changed_is_not_stored_again() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    drop(File::create(pond.path("f")).expect("made"));
    assert_eq!((source.stored(ROOT, "f"), persists(&source)), (Vec::new(), 1));
    drop(OpenOptions::new().read(true).write(true).open(pond.path("f")).expect("opened"));
    assert_eq!(persists(&source), 1);
}

#[test]
fn bytes_are_changed_in_place_appended_and_cut() {
    let source = FakePond::new();
    let inode = source.file(ROOT, "f", b"0123456789");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    assert_eq!(fs::read(&path).expect("readable"), b"0123456789");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
    file.write_all_at(b"ab", 3).expect("written");
    let mut all = [0; 10];
    file.read_exact_at(&mut all, 0).expect("readable");
    assert_eq!(&all, b"012ab56789");
    file.sync_all().expect("in the store");
    assert_eq!(source.stored(ROOT, "f"), b"012ab56789");
    drop(file);
    assert_eq!(persists(&source), 1, "nothing changed since");

    let mut appended = OpenOptions::new().append(true).open(&path).expect("opened");
    appended.write_all(b"xyz").expect("written");
    appended.write_all(b"!").expect("written");
    drop(appended);
    assert_eq!(fs::read(&path).expect("readable"), b"012ab56789xyz!");
    assert_eq!(source.stored(ROOT, "f"), b"012ab56789xyz!");

    let cut = OpenOptions::new().write(true).open(&path).expect("opened");
    cut.set_len(4).expect("cut");
    cut.write_all_at(b"Z", 6).expect("written");
    drop(cut);
    assert_eq!(fs::read(&path).expect("readable"), b"012a\0\0Z");
    assert_eq!(source.stored(ROOT, "f"), b"012a\0\0Z");

    truncate(&path, 2);
    assert_eq!(source.stored(ROOT, "f"), b"01", "there is no close to wait for");
    assert_eq!(fs::read(&path).expect("readable"), b"01");

    fs::write(&path, b"new").expect("written");
    assert_eq!(source.stored(ROOT, "f"), b"new");
    assert_eq!(fs::read(&path).expect("readable"), b"new");
    assert_eq!(fs::metadata(&path).expect("attributes").ino(), inode.0);
}

/// truncate(2), which has no descriptor.
fn truncate(path: &Path, length: i64) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the path is a string that ends in NUL.
    #[expect(unsafe_code, reason = "neither std nor rustix has truncate(2)")]
    let cut = unsafe { libc::truncate(path.as_ptr(), length) };
    assert_eq!(cut, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn readers_of_this_mount_see_what_is_written() {
    let source = FakePond::new();
    source.file(ROOT, "f", b"old bytes");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    let mut reader = File::open(&path).expect("opened");
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "old bytes");
    let mut writer = OpenOptions::new().write(true).truncate(true).open(&path).expect("opened");
    writer.write_all(b"new and longer").expect("written");
    assert_eq!(fs::read(&path).expect("readable"), b"new and longer", "before it is persisted");
    drop(writer);
    text.clear();
    reader.seek(SeekFrom::Start(0)).expect("seekable");
    reader.read_to_string(&mut text).expect("readable");
    assert_eq!(text, "new and longer", "a reader that was there before");
}

#[test]
fn what_another_client_wrote_is_seen_by_the_next_open() {
    let source = FakePond::new();
    source.set_validity(Duration::ZERO);
    let inode = source.file(ROOT, "f", b"old bytes");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    assert_eq!(fs::read(&path).expect("readable"), b"old bytes");
    source.rewrite(ROOT, "f", b"new bytes");
    assert_eq!(fs::read(&path).expect("readable"), b"new bytes", "the kernel has pages of the old version");
    assert_eq!(fs::metadata(&path).expect("attributes").ino(), inode.0);
}

#[test]
fn a_file_that_the_kernel_passes_through_is_written_beside_its_readers() {
    let (source, pond, reader) = read_from_disk();
    let (path, (passed, _)) = (pond.path("f"), pond.opens());
    let mut writer = OpenOptions::new().write(true).open(&path).expect("opened");
    writer.write_all(b"new bytes and more").expect("written");
    assert_eq!(fs::read(&path).expect("readable"), b"new bytes and more", "before it is persisted");
    drop(writer);
    assert_eq!(source.stored(ROOT, "f"), b"new bytes and more");
    assert_eq!(fs::read(&path).expect("readable"), b"new bytes and more", "and after");
    let mut old = [0; 9];
    reader.read_exact_at(&mut old, 0).expect("readable");
    if passed > 0 {
        assert_eq!(&old, b"old bytes", "who had it open keeps its version");
    }
}

#[test]
fn what_is_written_beside_passed_through_readers_is_not_opened_to_read_and_write() {
    let (_source, pond, reader) = read_from_disk();
    let (path, (passed, _)) = (pond.path("f"), pond.opens());
    let writer = OpenOptions::new().write(true).open(&path).expect("opened");
    let both = || OpenOptions::new().read(true).write(true).open(&path);
    if passed > 0 {
        assert_eq!(errno(both()), Some(libc::ETXTBSY), "who reads what is written would not hear of it");
    }
    drop((reader, writer));
    pond.wait_until(|_| both().is_ok());
}

#[test]
fn an_error_of_the_store_reaches_who_closes() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let mut file = File::create(pond.path("f")).expect("made");
    file.write_all(b"bytes").expect("written");
    source.set_refusing(true);
    assert_eq!(errno(file.sync_all()), Some(libc::EACCES));
    source.set_refusing(false);
    file.sync_all().expect("the bytes were kept");
    assert_eq!(source.stored(ROOT, "f"), b"bytes");
}

#[test]
fn what_is_written_through_a_mapping_is_in_the_store() {
    let source = FakePond::new();
    source.file(ROOT, "f", b"0123456789");
    let pond = Pond::mount(&source);
    let file = OpenOptions::new().read(true).write(true).open(pond.path("f")).expect("opened");
    map_and_write(&file, b"mapped");
    drop(file);
    pond.wait_until(|_| source.stored(ROOT, "f") == b"mapped6789");
}

fn map_and_write(file: &File, bytes: &[u8]) {
    use std::os::fd::AsRawFd as _;
    let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: the mapping is of a file with at least so many bytes, written within them, and taken down before it is used again.
    #[expect(unsafe_code, reason = "a shared mapping")]
    unsafe {
        let map = libc::mmap(std::ptr::null_mut(), bytes.len(), read_write, shared, file.as_raw_fd(), 0);
        assert_ne!(map, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), map.cast(), bytes.len());
        assert_eq!(libc::munmap(map, bytes.len()), 0);
    }
}

#[test]
fn names_are_made_removed_and_renamed() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let (dir, file) = (pond.path("d"), pond.path("d/f"));
    assert!(!dir.exists());
    fs::create_dir(&dir).expect("made");
    assert_eq!(errno(fs::create_dir(&dir)), Some(libc::EEXIST));
    assert_eq!(errno(fs::metadata(&file)), Some(libc::ENOENT));
    fs::write(&file, b"x").expect("written");
    assert_eq!(errno(fs::remove_dir(&dir)), Some(libc::ENOTEMPTY));
    fs::rename(&file, pond.path("g")).expect("renamed");
    assert_eq!(errno(fs::metadata(&file)), Some(libc::ENOENT));
    assert_eq!(fs::read(pond.path("g")).expect("readable"), b"x");
    assert_eq!(fs::read_dir(&dir).expect("listed").count(), 0);
    fs::write(&file, b"y").expect("written");
    let kept =
        rustix::fs::renameat_with(rustix::fs::CWD, pond.path("g"), rustix::fs::CWD, &file, RenameFlags::NOREPLACE);
    assert_eq!(kept, Err(rustix::io::Errno::EXIST));
    rustix::fs::renameat_with(rustix::fs::CWD, pond.path("g"), rustix::fs::CWD, &file, RenameFlags::EXCHANGE)
        .expect("exchanged");
    assert_eq!(fs::read(&file).expect("readable"), b"x");
    assert_eq!(fs::read(pond.path("g")).expect("readable"), b"y");
    fs::rename(&file, pond.path("g")).expect("replaced");
    assert_eq!(fs::read(pond.path("g")).expect("readable"), b"x");
    fs::rename(pond.path("g"), &file).expect("renamed back");
    fs::remove_file(&file).expect("removed");
    fs::remove_dir(&dir).expect("removed");
    assert!(!dir.exists());
    assert_eq!(fs::read_dir(pond.path("")).expect("listed").count(), 0);
}

#[test]
fn a_file_without_a_name_goes_on_for_who_has_it_open() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).expect("made");
    file.write_all_at(b"first", 0).expect("written");
    fs::remove_file(&path).expect("removed");
    file.write_all_at(b" second", 5).expect("written");
    let mut all = [0; 12];
    file.read_exact_at(&mut all, 0).expect("readable");
    assert_eq!(&all, b"first second");
    let reader = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).expect("opened");
    assert_eq!(file.metadata().expect("attributes").len(), 12);
    drop(file);
    reader.read_exact_at(&mut all, 0).expect("readable still");
    assert_eq!((&all, reader.metadata().expect("attributes").len()), (b"first second", 12));
    assert_eq!(source.writing(), 1);
    drop(reader);
    pond.wait_until(|_| source.writing() == 0);
    assert_eq!(persists(&source), 0);
}

#[test]
fn a_reader_keeps_a_file_that_is_removed() {
    let source = FakePond::new();
    let inode = source.file(ROOT, "f", &vec![7; 5_000_000]);
    let pond = Pond::mount(&source);
    let file = File::open(pond.path("f")).expect("opened");
    let reads = source.reads(inode);
    fs::remove_file(pond.path("f")).expect("removed");
    let asked = source.replaced_reads(inode);
    assert!(asked > reads, "it was brought here before its name went");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4_999_999).expect("readable");
    assert_eq!(file.metadata().expect("attributes").len(), 5_000_000);
}

#[test]
fn attributes_are_changed() {
    let source = FakePond::new();
    source.file(ROOT, "f", b"x");
    let pond = Pond::mount(&source);
    let path = pond.path("f");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).expect("changed");
    assert_eq!(fs::metadata(&path).expect("attributes").mode() & 0o7777, 0o4755);
    let found = fs::metadata(&path).expect("attributes");
    assert_eq!(found.accessed().expect("known"), found.modified().expect("known"));
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let set = |last_access, last_modification| {
        let times = Timestamps { last_access, last_modification };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).expect("changed");
        let found = fs::metadata(&path).expect("attributes");
        [(found.atime(), found.atime_nsec()), (found.mtime(), found.mtime_nsec())]
    };
    let (omit, now) = (time(0, UTIME_OMIT), time(0, UTIME_NOW));
    let (accessed, modified) = ((1, 2), (1_234_567_890, 987_654_321));
    assert_eq!(set(time(1, 2), time(1_234_567_890, 987_654_321)), [accessed, modified]);
    assert_eq!(set(omit, time(5, 0)), [accessed, (5, 0)]);
    assert_eq!(set(time(7, 0), omit), [(7, 0), (5, 0)]);
    assert_eq!(fs::read(&path).expect("readable"), b"x");
    assert_eq!(set(omit, omit), [(7, 0), (5, 0)], "a read is no access that is noted");
    let [accessed, modified] = set(now, now);
    assert_eq!(accessed, modified, "it is the same moment");
    assert!(accessed.0 > 1_234_567_890);
    if is_root() {
        std::os::unix::fs::chown(&path, Some(1234), Some(5678)).expect("changed");
        let found = fs::metadata(&path).expect("attributes");
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (1234, 5678, 0o755),
            "the right to act as another goes"
        );
    }
}

#[test]
fn room_is_made_in_advance() {
    let source = FakePond::new();
    let pond = Pond::mount(&source);
    let file = File::create(pond.path("f")).expect("made");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 10).expect("made longer");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 2, 3).expect("nothing to do");
    assert_eq!(file.metadata().expect("attributes").len(), 10);
    drop(file);
    assert_eq!(source.stored(ROOT, "f"), [0; 10]);
}

#[test]
fn holes_are_made_and_room_beyond_the_end_changes_nothing() {
    let source = FakePond::new();
    source.file(ROOT, "f", b"0123456789");
    let pond = Pond::mount(&source);
    let file = OpenOptions::new().read(true).write(true).open(pond.path("f")).expect("opened");
    let mut bytes = [0; 10];
    file.read_exact_at(&mut bytes, 0).expect("readable");
    let allocate = |flags, offset, length| rustix::fs::fallocate(&file, flags, offset, length);
    allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 2, 3).expect("a hole");
    allocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 9, 100).expect("a hole up to the end");
    allocate(FallocateFlags::KEEP_SIZE, 0, 100).expect("nothing to do");
    file.read_exact_at(&mut bytes, 0).expect("readable");
    assert_eq!((&bytes, file.metadata().expect("attributes").len()), (b"01\0\0\x005678\0", 10));
    allocate(FallocateFlags::ZERO_RANGE, 6, 6).expect("zeros");
    drop(file);
    assert_eq!(source.stored(ROOT, "f"), b"01\0\0\x005\0\0\0\0\0\0");
}

#[test]
fn nothing_is_left_behind_when_all_is_closed() {
    let source = FakePond::new();
    source.file(ROOT, "f", b"x");
    let pond = Pond::mount(&source);
    for round in 0..20 {
        fs::write(pond.path("f"), format!("{round}")).expect("written");
        assert_eq!(fs::read_to_string(pond.path("f")).expect("readable"), format!("{round}"));
    }
    pond.wait_until(|_| source.writing() == 0);
}
