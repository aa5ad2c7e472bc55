//! What happens in time, which stands still here.

use futures::{StreamExt as _, future::BoxFuture};
use headpond_proto::v1::{Mount, PersistGrant, RegisterResponse};
use headpond_runtime::{Shutdown, SystemClock};
use headpond_store::{DirConfig, PageStore, StoreConfig};
use headpond_ufs::{Fault, Faulty, Key, Memory, Op, Precondition, UfsErrorKind, UnderStore};

use super::{persist::run, *};
use crate::mounts::Connect;

#[derive(Debug)]
struct ToStore(Faulty);

impl Connect for ToStore {
    fn connect<'a>(&'a self, _: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
        Box::pin(async { Ok(Arc::new(self.0.clone()) as Arc<dyn UnderStore>) })
    }
}

/// A stager in `dir` for a store with mount 1.
fn stager(store: &Faulty, dir: &tempfile::TempDir) -> Arc<Stager> {
    let dirs = vec![DirConfig { path: dir.path().to_owned(), capacity_bytes: 1 << 30 }];
    let (pages, metrics) = (PageStore::open(StoreConfig { dirs }).expect("a store"), Metrics::default());
    let cluster = Arc::new(Cluster::new(Arc::new(ToStore(store.clone()))));
    cluster.mounts.set(&[Mount { id: 1, ..Mount::default() }], 1);
    let pages = Arc::new(pages);
    let room = Arc::new(Room::new(1 << 29, Duration::from_mins(1), Arc::clone(&pages), Arc::clone(&cluster)));
    Arc::new(Stager::new(
        Arc::new(Cache::new(pages, metrics.clone())),
        cluster,
        Arc::new(SystemClock),
        metrics,
        Tasks::new(Shutdown::new()),
        (
            Arc::new(Abandoned::open(dir.path()).expect("notes")),
            Peers::new(headpond_transport::Transport::plaintext(), crate::Deadlines::default()),
            room,
        ),
    ))
}

/// Puts a staged file of these bytes into the table.
async fn staged(stager: &Stager, lease: u64, bytes: &'static [u8]) -> Arc<Staged> {
    let file = stager.cache.stage().await.expect("staged");
    let (staged, _) = stager.table.insert(lease, Staged::new(lease, 1, None, file));
    staged.on_file(move |file| file.write_at(0, bytes)).await.expect("written");
    staged
}

async fn store(stager: &Arc<Stager>, staged: &Arc<Staged>, replaces: Option<&str>) -> Result<PersistResponse> {
    let replaces = replaces.map(str::to_owned);
    persist(stager, staged, PersistGrant { key: "k".into(), replaces, ..PersistGrant::default() }).await
}

async fn persist(stager: &Arc<Stager>, staged: &Arc<Staged>, grant: PersistGrant) -> Result<PersistResponse> {
    let length = staged.on_file(headpond_store::Staging::len).await.expect("a length");
    let content = Some(ContentId(1).into());
    let grant = PersistGrant { lease: 1, mount: 1, content, expires_ns: i64::MAX, ..grant };
    let wanted = Wanted { length, round: 0, mtime: None, heads: Vec::new(), copies: None };
    run(Arc::clone(stager), Arc::clone(staged), (SignedGrant::default(), wanted), grant).await
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_about_goes_unless_a_connection_has_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let stager = stager(&Faulty::new(Arc::new(Memory::named("unused")), 1), &dir);
    for lease in 1..=3 {
        staged(&stager, lease, b"x").await;
    }
    stager.table.find(2).expect("there").bind(9);
    let asking = async {
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_mins(1)).await;
            stager.table.find(3).expect("in use").touch();
        }
    };
    tokio::select! {
        () = stager.maintain() => panic!("it never ends"),
        () = asking => {}
    }
    assert!(stager.table.find(1).is_none());
    assert!(stager.table.find(2).is_some() && stager.table.find(3).is_some());
    stager.end_session(9).await;
    assert!(stager.table.find(2).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_through_a_descriptor_is_counted_soon() {
    let dir = tempfile::tempdir().expect("a directory");
    let stager = stager(&Faulty::new(Arc::new(Memory::named("counted")), 1), &dir);
    let staged = staged(&stager, 1, b"x").await;
    staged.bind(9);
    let file = staged.on_file(headpond_store::Staging::descriptor).await.expect("a descriptor");
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 1 << 20], 0).expect("written");
    let used = || stager.cache.store().usage().used_bytes();
    assert_eq!(used(), 4096);
    tokio::select! {
        () = stager.maintain() => panic!("it never ends"),
        () = tokio::time::sleep(2 * ACCOUNT) => {}
    }
    assert_eq!(used(), 1 << 20);
}

#[tokio::test]
async fn who_reads_a_durable_file_while_it_ends_gets_its_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let stager = stager(&Faulty::new(Arc::new(Memory::named("ends")), 1), &dir);
    stager.cluster.join(&RegisterResponse { worker: 1, ..RegisterResponse::default() });
    let staged = staged(&stager, 1, b"bytes").await;
    persist(&stager, &staged, PersistGrant { copies: 1, ..PersistGrant::default() }).await.expect("durable");
    let read = || body(&stager.cache, ContentId(1), &(0..5)).expect("it is here");
    let (mut before, ended) = (read(), staged.take().expect("it had not ended"));
    let mut meanwhile = read();
    let (before, meanwhile, ()) = tokio::join!(before.next(), meanwhile.next(), async {
        stager.cache.adopt(|| Some(Adoption::Dirty(ended, Some(ContentId(1))))).await;
        stager.cache.stored().remove(&[ContentId(1)]);
        staged.finish();
    });
    let after = read().next().await;
    for page in [before, meanwhile, after] {
        assert_eq!(page.expect("a page").expect("read"), "bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_in_an_error_and_is_not_held_against_the_next_try() {
    let dir = tempfile::tempdir().expect("a directory");
    let faulty = Faulty::new(Arc::new(Memory::named("hangs")), 1);
    let stager = stager(&faulty, &dir);
    let staged = staged(&stager, 1, b"bytes").await;
    faulty.chance(Some(Op::Put), 1.0, Fault::Hang);
    let error = store(&stager, &staged, None).await.expect_err("it hangs");
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    faulty.heal();
    // It was carried out after all.
    let key = Key::from("k");
    let late = faulty.put(&key, "bytes".into(), &Precondition::None).await.expect("put");
    let answer = store(&stager, &staged, None).await.expect("what is there is ours");
    assert_eq!(answer.version, late.version);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_again_and_again_do_not_hide_what_was_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let faulty = Faulty::new(Arc::new(Memory::named("deaf")), 1);
    let stager = stager(&faulty, &dir);
    let staged = staged(&stager, 1, b"bytes").await;
    faulty.chance(Some(Op::Put), 1.0, Fault::Error(UfsErrorKind::Transient));
    let error = store(&stager, &staged, None).await.expect_err("nothing was stored");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    faulty.heal();
    faulty.chance(Some(Op::Put), 1.0, Fault::LostAnswer);
    store(&stager, &staged, None).await.expect("it is there");
}

/// More than one PUT takes.
static LARGE: [u8; 20 << 20] = [7; 20 << 20];

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_is_not_waited_for_once_the_object_is_there() {
    for (bytes, op) in [(&b"bytes"[..], Op::Put), (&LARGE[..], Op::CompleteMultipart)] {
        for replaces in [None, Some("old")] {
            let dir = tempfile::tempdir().expect("a directory");
            let faulty = Faulty::new(Arc::new(Memory::named(&format!("silent-{op}-{replaces:?}"))), 1);
            let stager = stager(&faulty, &dir);
            let staged = staged(&stager, 1, bytes).await;
            let old = match replaces {
                Some(old) => {
                    Some(faulty.put(&Key::from("k"), old.into(), &Precondition::None).await.expect("put").version)
                }
                None => None,
            };
            faulty.script(op, [Some(Fault::Silence)]);
            // The store is away for a while.
            faulty.script(Op::Head, [Some(Fault::Hang), Some(Fault::Error(UfsErrorKind::Transient))]);
            let begun = tokio::time::Instant::now();
            let answer = store(&stager, &staged, old.as_deref()).await.expect("it is there");
            assert!(begun.elapsed() < Duration::from_secs(15), "{op}: {:?}", begun.elapsed());
            assert_eq!(answer.version, faulty.head(&Key::from("k")).await.expect("there").version);
            assert_eq!((faulty.scripted(op), faulty.scripted(Op::Head)), (0, 0));
            stager.abandoned.abort_in(MountId(1), &faulty).await.expect("nothing to abort");
            assert_eq!(notes(&dir), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_lost_is_sent_again_well_before_the_persist_ends() {
    for (bytes, op) in [(&b"bytes"[..], Op::Put), (&LARGE[..], Op::CompleteMultipart)] {
        let dir = tempfile::tempdir().expect("a directory");
        let faulty = Faulty::new(Arc::new(Memory::named(&format!("lost-{op}"))), 1);
        let stager = stager(&faulty, &dir);
        let staged = staged(&stager, 1, bytes).await;
        faulty.script(op, [Some(Fault::Hang), None]);
        let begun = tokio::time::Instant::now();
        store(&stager, &staged, None).await.expect("stored");
        assert!(begun.elapsed() < Duration::from_secs(30), "{op}: {:?}", begun.elapsed());
        assert_eq!((faulty.scripted(op), notes(&dir)), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn anothers_object_is_not_taken_for_what_was_lost() {
    let dir = tempfile::tempdir().expect("a directory");
    let faulty = Faulty::new(Arc::new(Memory::named("anothers")), 1);
    let stager = stager(&faulty, &dir);
    let staged = staged(&stager, 1, b"bytes").await;
    faulty.script(Op::Put, [Some(Fault::Hang)]);
    let (error, put) = tokio::join!(store(&stager, &staged, None), async {
        while faulty.scripted(Op::Put) > 0 {
            tokio::task::yield_now().await;
        }
        faulty.put(&Key::from("k"), "other".into(), &Precondition::None).await.expect("put")
    });
    assert_eq!(error.expect_err("another's").kind(), ErrorKind::Stale);
    assert_eq!(faulty.head(&Key::from("k")).await.expect("there").version, put.version);
}

#[tokio::test(start_paused = true)]
async fn the_upload_of_what_is_there_already_is_aborted() {
    let dir = tempfile::tempdir().expect("a directory");
    let faulty = Faulty::new(Arc::new(Memory::named("there-already")), 1);
    let stager = stager(&faulty, &dir);
    let staged = staged(&stager, 1, &LARGE).await;
    faulty.script(Op::CompleteMultipart, [Some(Fault::LostAnswer)]);
    faulty.chance(Some(Op::Head), 1.0, Fault::Error(UfsErrorKind::Refused));
    store(&stager, &staged, None).await.expect_err("nobody knows");
    faulty.heal();
    stager.abandoned.abort_in(MountId(1), &faulty).await.expect("aborted");
    store(&stager, &staged, None).await.expect("it is there");
    assert_eq!(notes(&dir), 1, "the second upload is left");
    faulty.script(Op::AbortMultipart, [None]);
    stager.abandoned.abort_in(MountId(1), &faulty).await.expect("aborted");
    assert_eq!((faulty.scripted(Op::AbortMultipart), notes(&dir)), (0, 0));
}

/// Uploads that are noted.
fn notes(dir: &tempfile::TempDir) -> usize {
    std::fs::read_dir(dir.path().join("uploads")).expect("a directory").count()
}
