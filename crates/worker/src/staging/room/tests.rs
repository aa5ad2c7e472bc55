use futures::future::BoxFuture;
use headpond_proto::v1::{Durability, Mount};
use headpond_store::{DirConfig, StoreConfig};
use headpond_ufs::UnderStore;

use super::*;
use crate::mounts::Connect;

const LIMIT: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_mins(5);

const A: MountId = MountId(1);
const B: MountId = MountId(2);

#[derive(Debug)]
struct Nowhere;

impl Connect for Nowhere {
    fn connect<'a>(&'a self, _: &'a Mount) -> BoxFuture<'a, Result<Arc<dyn UnderStore>>> {
        Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "no store")) })
    }
}

/// A bound on a store without contents, for mounts that persist later.
fn room_of(dir: &tempfile::TempDir, mounts: &[MountId]) -> Arc<Room> {
    let dirs = vec![DirConfig { path: dir.path().to_owned(), capacity_bytes: 1 << 30 }];
    let store = PageStore::open(StoreConfig { dirs }).expect("a store");
    let cluster = Cluster::new(Arc::new(Nowhere));
    let later = |id: &MountId| Mount { id: id.0, durability: Durability::Async.into(), ..Mount::default() };
    // One that does not, and so has no part of it.
    let mounts: Vec<_> = mounts.iter().map(later).chain([Mount { id: 9, ..Mount::default() }]).collect();
    cluster.mounts.set(&mounts, 1);
    Arc::new(Room::new(LIMIT, PATIENCE, Arc::new(store), Arc::new(cluster)))
}

fn room(dir: &tempfile::TempDir) -> Arc<Room> {
    room_of(dir, &[A])
}

/// What the master says of these mounts: how much is dirty, and whether it is due.
fn tell(room: &Room, dirty: &[(MountId, u64, bool)]) {
    let dirty = dirty.iter().map(|(mount, bytes, is_due)| (*mount, Dirty { bytes: *bytes, is_due: *is_due }));
    room.told(&dirty.collect(), false);
}

async fn taken(room: &Room, bytes: u64) -> u64 {
    room.reserve(A, (0, bytes), Duration::ZERO).await.expect("there is room")
}

/// Asks as a client does: again when there was no room yet.
async fn ask(room: &Room, bytes: u64) -> Result<u64> {
    ask_for(room, A, (0, bytes)).await
}

async fn ask_for(room: &Room, mount: MountId, wanted: (u64, u64)) -> Result<u64> {
    let since = Instant::now();
    loop {
        match room.reserve(mount, wanted, since.elapsed()).await {
            Err(error) if error.kind() == ErrorKind::Busy => {}
            answer => return answer,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_ahead_is_little_near_the_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    assert_eq!(room.offer(A), FIRST);
    let plenty = taken(&room, 16 << 20).await;
    assert_eq!(plenty, (16 << 20) + LIMIT / 16);
    let rest = LIMIT - room.reserved();
    assert_eq!(taken(&room, rest).await, rest);
    assert_eq!((room.offer(A), room.reserved()), (0, LIMIT));
    room.give_back(A, LIMIT);
    assert_eq!(room.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_comes_first_whatever_he_asks_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    let all = taken(&room, LIMIT).await;
    let first = room.reserve(A, (0, LIMIT / 2), Duration::ZERO);
    tokio::pin!(first);
    assert!(futures::poll!(&mut first).is_pending());
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = room.reserve(A, (0, 1), Duration::ZERO);
    tokio::pin!(second);
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(room.waiting(), 2);
    room.count(A, 0);
    // There is room for the second, who is not let past.
    room.give_back(A, LIMIT / 4);
    assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut first).is_pending());
    // Who asked before both and comes again goes before both.
    let again = room.reserve(A, (0, LIMIT / 4), Duration::from_mins(1)).await.expect("his turn");
    room.give_back(A, all - LIMIT / 4);
    assert_eq!(first.await.expect("his turn") / (LIMIT / 2), 1);
    second.await.expect("his turn");
    assert_eq!(again, LIMIT / 4);
    assert_eq!(room.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_something_is_to_be_persisted_a_writer_waits_and_not_for_ever() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    taken(&room, LIMIT).await;
    let begun = Instant::now();
    let telling = async {
        loop {
            tell(&room, &[(A, 0, true)]);
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
    };
    let error = tokio::select! {
        answer = ask(&room, 1) => answer.expect_err("nothing comes free"),
        () = telling => unreachable!(),
    };
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!((PATIENCE..PATIENCE + HOLD).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Something that comes free begins it anew.
    let late = begun + 2 * PATIENCE;
    let asking = ask(&room, LIMIT / 2);
    let freeing = async {
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        room.give_back(A, 1);
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        room.give_back(A, LIMIT - 1);
    };
    let (got, ()) = tokio::join!(asking, freeing);
    got.expect("there is room at last");
    assert!(Instant::now() > late);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_to_be_persisted_there_is_soon_no_space() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    taken(&room, LIMIT).await;
    let begun = Instant::now();
    tell(&room, &[]);
    let error = ask(&room, 1).await.expect_err("nothing comes free");
    assert!(error.to_string().contains("worker.dirty_limit"), "{error}");
    assert!((STUCK..STUCK + HOLD).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Who comes later waits for no longer than it takes to ask the master.
    let begun = Instant::now();
    ask(&room, 1).await.expect_err("nothing comes free");
    assert!(begun.elapsed() <= LEAST + LOOK);
    room.give_back(A, LIMIT);
    ask(&room, 1).await.expect("there is room again");
}

#[tokio::test]
async fn a_file_may_have_all_that_others_leave_its_mount() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(room(&dir).most(A), LIMIT);
    assert_eq!(room_of(&dir, &[A, B]).most(A), LIMIT / 4 * 3);
}

#[tokio::test(start_paused = true)]
async fn a_mount_whose_store_is_down_stops_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room_of(&dir, &[A, B]);
    // All that one may have: the rest is the other's.
    let most = LIMIT / 4 * 3;
    room.count(A, most);
    let mut waiting = Box::pin(ask(&room, 1));
    assert!(futures::poll!(&mut waiting).is_pending());
    for _ in 0..10 {
        let more = LIMIT / 4 - room.offer(B);
        ask_for(&room, B, (0, more)).await.expect("its own part");
        assert_eq!(room.reserved(), LIMIT);
        room.give_back(B, LIMIT / 4);
        assert!(futures::poll!(&mut waiting).is_pending());
    }
    // What the other has beyond its part, the first does not get either.
    room.give_back(A, most - LIMIT / 4);
    waiting.await.expect("there is room");
}

#[tokio::test(start_paused = true)]
async fn a_mount_gets_its_part_whatever_others_have_already() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    taken(&room, LIMIT).await;
    let later = |id: MountId| Mount { id: id.0, durability: Durability::Async.into(), ..Mount::default() };
    room.cluster.mounts.set(&[A, B].map(later), 2);
    assert_eq!(ask_for(&room, B, (0, LIMIT / 4)).await.expect("its part"), LIMIT / 4);
    let mut more = Box::pin(ask_for(&room, B, (LIMIT / 4, 1)));
    assert!(futures::poll!(&mut more).is_pending());
}

#[tokio::test(start_paused = true)]
async fn what_the_master_says_of_one_mount_is_no_hope_for_another() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room_of(&dir, &[A, B]);
    room.count(A, LIMIT / 4 * 3);
    let begun = Instant::now();
    // What is due lies in the other's own part.
    room.count(B, LIMIT / 8);
    tell(&room, &[(B, 0, true)]);
    ask(&room, 1).await.expect_err("nothing comes free");
    assert!((STUCK..STUCK + HOLD).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Beyond it it is hope.
    room.give_back(A, LIMIT / 4);
    room.count(B, LIMIT / 4);
    let begun = Instant::now();
    tell(&room, &[(B, 0, true)]);
    ask(&room, LIMIT / 4).await.expect_err("nothing comes free");
    assert!(begun.elapsed() >= PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn of_files_that_keep_each_other_waiting_one_gives_up_and_the_others_go_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    room.count(A, LIMIT);
    tell(&room, &[]);
    let (held, more) = (LIMIT / 4, LIMIT / 8);
    let first = ask_for(&room, A, (held, more));
    let second = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let error = ask_for(&room, A, (held, more)).await.expect_err("the last that came");
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        // Who hears of it closes his file.
        tokio::time::sleep(Duration::from_secs(3)).await;
        room.give_back(A, held);
    };
    let (first, ()) = tokio::join!(first, second);
    first.expect("what the second gave up");
}
