//! What is particular to a directory tree.

use std::{fs, os::unix::fs::symlink, path::Path};

use bytes::Bytes;
use futures::{TryStreamExt, future::join_all};
use headpond_ufs::{Key, ListRequest, Local, ObjectMeta, Precondition, UfsError, UfsErrorKind, UnderStore};

async fn store(root: &Path) -> Local {
    Local::open(root).await.expect("a directory")
}

async fn keys(store: &Local) -> Vec<String> {
    let page = store.list(&ListRequest::default()).await.expect("a page");
    page.entries.iter().map(|entry| format!("{:?}", entry.key())).collect()
}

async fn read(store: &Local, meta: &ObjectMeta) -> Result<Vec<u8>, UfsError> {
    let chunks: Vec<Bytes> = store.get(&meta.key, 0..meta.size, &meta.version).await?.try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test]
async fn no_symbolic_link_leads_out() {
    let (outside, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    fs::write(root.path().join("dir/inside"), "inside").unwrap();
    for (target, link) in [
        (outside.path().join("secret").as_path(), "absolute"),
        (Path::new("../../../../../../etc/passwd"), "relative"),
        (Path::new("dir/inside"), "followed"),
        (Path::new("dir"), "directory"),
        (outside.path(), "outside"),
        (Path::new("nowhere"), "dangling"),
        (Path::new("loop"), "loop"),
    ] {
        symlink(target, root.path().join(link)).unwrap();
    }
    let store = store(root.path()).await;
    assert_eq!(keys(&store).await, ["\"dir/\"", "\"dir/inside\"", "\"followed\""]);
    let followed = store.head(&Key::from("followed")).await.expect("a link within the root");
    assert_eq!(read(&store, &followed).await.expect("its bytes"), b"inside");
    for key in ["absolute", "relative", "outside/secret", "loop"] {
        let error = store.head(&Key::from(key)).await.expect_err(key);
        assert_eq!(error.kind(), UfsErrorKind::Refused, "{error}");
        assert!(store.get(&Key::from(key), 0..1, "v").await.is_err());
    }
    let error = store.put(&Key::from("outside/new"), "x".into(), &Precondition::None).await.expect_err("a link");
    assert_eq!(error.kind(), UfsErrorKind::Refused, "{error}");
    assert!(!outside.path().join("new").exists());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_never_mixed() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("f");
    fs::write(&path, vec![1; 5 << 20]).unwrap();
    let store = store(root.path()).await;
    let meta = store.head(&Key::from("f")).await.expect("a file");

    let mut body = store.get(&meta.key, 0..meta.size, &meta.version).await.expect("a body");
    let first = body.try_next().await.expect("a chunk").expect("bytes");
    assert!(first.iter().all(|byte| *byte == 1));
    fs::write(&path, vec![2; 5 << 20]).unwrap();
    assert_eq!(body.try_next().await.expect_err("a changed file").kind(), UfsErrorKind::Changed);
    assert_eq!(read(&store, &meta).await.expect_err("an old version").kind(), UfsErrorKind::Changed);

    // Replaced by a rename, as careful writers do.
    let meta = store.head(&meta.key).await.expect("a file");
    let mut body = store.get(&meta.key, 0..meta.size, &meta.version).await.expect("a body");
    body.try_next().await.expect("a chunk");
    fs::write(root.path().join("g"), vec![3; 5 << 20]).unwrap();
    fs::rename(root.path().join("g"), &path).unwrap();
    assert_eq!(body.try_next().await.expect_err("a replaced file").kind(), UfsErrorKind::Changed);
}

#[tokio::test]
async fn names_that_are_not_text_are_listed_and_read() {
    use std::os::unix::ffi::OsStrExt;
    let root = tempfile::tempdir().unwrap();
    let name = b"caf\xe9\n";
    fs::write(root.path().join(std::ffi::OsStr::from_bytes(name)), "latin").unwrap();
    let store = store(root.path()).await;
    let page = store.list(&ListRequest::default()).await.expect("a page");
    assert_eq!(page.entries[0].key().as_bytes(), name);
    let meta = store.head(page.entries[0].key()).await.expect("a file");
    assert_eq!(read(&store, &meta).await.expect("its bytes"), b"latin");
}

#[tokio::test]
async fn only_files_and_directories_are_keys() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("empty")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(root.path().join("fifo")).status().unwrap();
    assert!(fifo.success());
    let store = store(root.path()).await;
    assert_eq!(keys(&store).await, ["\"empty/\""]);
    for key in ["socket", "fifo", "empty"] {
        assert!(store.get(&Key::from(key), 0..1, "v").await.is_err());
        assert_eq!(store.head(&Key::from(key)).await.expect_err(key).kind(), UfsErrorKind::NotFound);
    }
    drop(socket);
}

#[tokio::test]
async fn what_is_being_written_has_no_key() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    assert_eq!(keys(&store).await, [""; 0]);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "reading left something behind");

    let key = Key::from("k");
    let upload = store.create_multipart(&key).await.expect("an upload");
    store.put_part(&key, &upload, 1, "part".into()).await.expect("a part");
    assert_eq!(keys(&store).await, [""; 0]);
    let entry = fs::read_dir(root.path()).unwrap().next().expect("the staging directory").unwrap();
    let staging = entry.file_name().into_string().unwrap();
    for key in [staging.clone(), format!("{staging}/x")].map(Key::from) {
        assert_eq!(store.head(&key).await.expect_err("reserved").kind(), UfsErrorKind::Invalid);
        let put = store.put(&key, Bytes::new(), &Precondition::None).await;
        assert_eq!(put.expect_err("reserved").kind(), UfsErrorKind::Invalid);
    }
    assert_eq!(
        store
            .list(&ListRequest { prefix: format!("{staging}/").into(), ..ListRequest::default() })
            .await
            .expect("a page")
            .entries,
        []
    );
    store.abort_multipart(&key, &upload).await.expect("an abort");
    store.put(&key, "x".into(), &Precondition::None).await.expect("a put");
    assert!(store.put(&key, "x".into(), &Precondition::Absent).await.is_err());
    assert_eq!(fs::read_dir(entry.path()).unwrap().count(), 0, "something was left behind");
}

#[tokio::test]
async fn a_marker_is_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let marker = Key::from("a/b/");
    store.put(&marker, Bytes::new(), &Precondition::Absent).await.expect("made");
    assert!(root.path().join("a/b").is_dir());
    fs::write(root.path().join("a/b/f"), "x").unwrap();
    store.delete(&marker, &Precondition::None).await.expect("it has entries, which imply it");
    assert!(root.path().join("a/b/f").exists());
    fs::remove_file(root.path().join("a/b/f")).unwrap();
    store.delete(&marker, &Precondition::None).await.expect("deleted");
    assert!(!root.path().join("a/b").exists() && root.path().join("a").is_dir());
    fs::write(root.path().join("file"), "x").unwrap();
    store.delete(&Key::from("file/"), &Precondition::None).await.expect("no directory is there");
    store.delete(&Key::from("a"), &Precondition::None).await.expect("no file is there");
    assert!(root.path().join("file").exists() && root.path().join("a").is_dir());
}

#[tokio::test]
async fn of_conditional_writers_one_wins() {
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path()).await;
    let key = Key::from("k");
    let attempt = async |condition: &Precondition| {
        let puts = (0..16).map(|writer| store.put(&key, format!("{writer}").into(), condition));
        let mut won: Vec<ObjectMeta> = join_all(puts).await.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1);
        let meta = store.head(&key).await.expect("the winner's");
        assert_eq!(won.pop(), Some(meta.clone()));
        meta
    };
    let first = attempt(&Precondition::Absent).await;
    attempt(&Precondition::Matches(first.version)).await;
}

#[tokio::test]
async fn a_root_that_is_gone_is_an_error_and_not_empty() {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), "x").unwrap();
    let store = store(&root).await;
    let one = ListRequest { max_keys: 1, ..ListRequest::default() };
    fs::write(root.join("g"), "x").unwrap();
    let next = ListRequest { continuation: store.list(&one).await.expect("a page").continuation, ..one };
    fs::remove_dir_all(&root).unwrap();
    for result in [
        store.list(&ListRequest::default()).await.map(|_| ()),
        store.list(&next).await.map(|_| ()),
        store.head(&Key::from("f")).await.map(|_| ()),
        store.delete(&Key::from("f"), &Precondition::None).await,
    ] {
        let error = result.expect_err("no root");
        assert_eq!(error.kind(), UfsErrorKind::NoSuchStore, "{error}");
        assert!(error.to_string().contains("create or mount it"), "{error}");
    }
}

#[tokio::test]
async fn a_continuation_outlives_what_the_store_remembers() {
    let root = tempfile::tempdir().unwrap();
    for index in 0..30 {
        fs::create_dir(root.path().join(format!("d{index:02}"))).unwrap();
        fs::write(root.path().join(format!("d{index:02}/f")), "x").unwrap();
    }
    for delimited in [false, true] {
        let mut request = ListRequest { max_keys: 7, delimited, ..ListRequest::default() };
        let mut found = Vec::new();
        loop {
            // A new driver for every page, as after a restart.
            let page = store(root.path()).await.list(&request).await.expect("a page");
            found.extend(page.entries.iter().map(|entry| entry.key().clone()));
            request.continuation = page.continuation;
            if request.continuation.is_none() {
                break;
            }
        }
        assert_eq!(found.len(), if delimited { 30 } else { 60 });
        assert!(found.is_sorted());
    }
}
