use headpond_store::{DirConfig, StoreConfig};

use super::*;

const LIMIT: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_mins(5);

/// A bound on a store without contents.
fn room(dir: &tempfile::TempDir) -> Arc<Room> {
    let dirs = vec![DirConfig { path: dir.path().to_owned(), capacity_bytes: 1 << 30 }];
    let store = PageStore::open(StoreConfig { dirs }).expect("a store");
    Arc::new(Room::new(LIMIT, PATIENCE, Arc::new(store)))
}

async fn taken(room: &Room, bytes: u64) -> u64 {
    room.reserve(0, bytes, Duration::ZERO).await.expect("there is room")
}

/// Asks as a client does: again when there was no room yet.
async fn ask(room: &Room, bytes: u64) -> Result<u64> {
    let since = Instant::now();
    loop {
        match room.reserve(0, bytes, since.elapsed()).await {
            Err(error) if error.kind() == ErrorKind::Busy => {}
            answer => return answer,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_set_aside_ahead_is_little_near_the_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    assert_eq!(room.offer(), FIRST);
    let plenty = taken(&room, 16 << 20).await;
    assert_eq!(plenty, (16 << 20) + LIMIT / 16);
    let rest = LIMIT - room.reserved();
    assert_eq!(taken(&room, rest).await, rest);
    assert_eq!((room.offer(), room.reserved()), (0, LIMIT));
    room.give_back(LIMIT);
    assert_eq!(room.reserved(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_longest_comes_first_whatever_he_asks_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    let all = taken(&room, LIMIT).await;
    let first = room.reserve(0, LIMIT / 2, Duration::ZERO);
    tokio::pin!(first);
    assert!(futures::poll!(&mut first).is_pending());
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = room.reserve(0, 1, Duration::ZERO);
    tokio::pin!(second);
    assert!(futures::poll!(&mut second).is_pending());
    assert_eq!(room.waiting(), 2);
    room.count(0);
    // There is room for the second, who is not let past.
    room.give_back(LIMIT / 4);
    assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut first).is_pending());
    // Who asked before both and comes again goes before both.
    let again = room.reserve(0, LIMIT / 4, Duration::from_mins(1)).await.expect("his turn");
    room.give_back(all - LIMIT / 4);
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
            room.told(true);
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
        room.give_back(1);
        tokio::time::sleep(PATIENCE - Duration::from_secs(1)).await;
        room.give_back(LIMIT - 1);
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
    room.told(false);
    let error = ask(&room, 1).await.expect_err("nothing comes free");
    assert!(error.to_string().contains("worker.dirty_limit"), "{error}");
    assert!((STUCK..STUCK + HOLD).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Who comes later waits for no longer than it takes to ask the master.
    let begun = Instant::now();
    ask(&room, 1).await.expect_err("nothing comes free");
    assert!(begun.elapsed() <= LEAST + LOOK);
    room.give_back(LIMIT);
    ask(&room, 1).await.expect("there is room again");
}

#[tokio::test]
async fn what_never_fits_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let room = room(&dir);
    let error = room.reserve(LIMIT, 1, Duration::ZERO).await.expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert_eq!(room.reserved(), 0);
}
