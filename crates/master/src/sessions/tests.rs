use headpond_types::{Epoch, Name};

use super::{session::BACKLOG, *};

const LEASE: Duration = Duration::from_secs(30);
const DIR: InodeId = InodeId(5);

fn changed(name: &str) -> Effect {
    Effect::Entry { parent: DIR, name: Name::new(name).expect("a name"), old: Some(InodeId(7)) }
}

fn rig() -> Arc<Sessions> {
    Arc::new(Sessions::new(LEASE))
}

/// The next invalidation that `session` hears of.
async fn told(session: &mut Session) -> Invalidation {
    match session.next().await.and_then(|event| event.event) {
        Some(Event::Invalidation(told)) => told,
        other => panic!("an invalidation, not {other:?}"),
    }
}

/// A change of [`DIR`] as `author`, which waits for those who may believe otherwise.
async fn change(sessions: &Sessions, author: Option<u64>) -> Duration {
    let (request, began) = (RequestId(rand::random()), Instant::now());
    let serving = sessions.serve(request, author);
    sessions.tell_change(9, &[changed("a")], Change { request, locks: Locks::Names, in_place: false });
    serving.settled().await;
    began.elapsed()
}

#[tokio::test]
async fn a_session_hears_what_changed() {
    let sessions = rig();
    let mut session = sessions.open("mount@n1".to_owned(), None, false);
    sessions.tell(9, &[changed("a"), Effect::Mounts]);
    let told = told(&mut session).await;
    assert_eq!((told.entries.len(), told.as_of, told.ticket), (1, 9, 0));
    assert_eq!((told.entries[0].parent, &told.entries[0].name[..], told.entries[0].inode), (5, &b"a"[..], 7));
    assert_eq!(sessions.count(), 1);
    drop(session);
    assert_eq!(sessions.count(), 0);
}

#[tokio::test]
async fn a_slow_session_is_told_to_forget_everything() {
    let sessions = rig();
    let mut session = sessions.open("slow".to_owned(), None, false);
    for _ in 0..=BACKLOG {
        sessions.tell(9, &[changed("a")]);
    }
    assert_eq!(session.next().await.and_then(|event| event.event), Some(Event::Reset(true)));
    sessions.tell_ring(&Ring { epoch: Epoch(3), members: Vec::new() });
    assert!(matches!(session.next().await.and_then(|event| event.event), Some(Event::Ring(_))));
}

#[tokio::test(start_paused = true)]
async fn a_change_waits_until_those_have_heard_who_may_believe_otherwise() {
    let sessions = rig();
    let (mut reader, mut other) =
        (sessions.open("reader".to_owned(), None, false), sessions.open("other".to_owned(), None, false));
    let author = sessions.open("author".to_owned(), None, false);
    for session in [&reader, &author] {
        assert!(sessions.may_believe(session.id(), [DIR], 3, LEASE));
    }
    assert!(sessions.may_believe(other.id(), [InodeId(6)], 3, LEASE));
    let hears = async {
        let ticket = told(&mut reader).await.ticket;
        assert_eq!(told(&mut other).await.ticket, 0, "it was told nothing");
        tokio::time::sleep(Duration::from_secs(2)).await;
        reader.listener().take(&[ticket]);
    };
    let (waited, ()) = tokio::join!(change(&sessions, Some(author.id())), hears);
    assert_eq!(waited, Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn who_is_told_nothing_or_believes_it_no_more_is_not_waited_for() {
    let sessions = rig();
    let reader = sessions.open("reader".to_owned(), None, false);
    assert_eq!(change(&sessions, None).await, Duration::ZERO);
    assert!(sessions.may_believe(reader.id(), [DIR], 9, LEASE));
    tokio::time::advance(LEASE).await;
    assert_eq!(change(&sessions, None).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_hear_delays_one_change_until_it_believes_nothing() {
    let sessions = rig();
    let mut dead = sessions.open("dead".to_owned(), None, false);
    assert!(sessions.may_believe(dead.id(), [DIR], 3, LEASE));
    tokio::time::advance(LEASE / 3).await;
    assert_eq!(change(&sessions, None).await, LEASE * 2 / 3);
    assert_eq!(dead.next().await, None, "closed");
    assert!(!sessions.may_believe(dead.id(), [DIR], 9, LEASE));
    assert_eq!(change(&sessions, None).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_waited_for_only_if_caches_above_it_go_on() {
    for (above, leaves, expected) in
        [(false, false, Duration::ZERO), (true, false, LEASE), (true, true, Duration::ZERO)]
    {
        let sessions = rig();
        let session = sessions.open("gone".to_owned(), None, false);
        assert!(sessions.may_believe(session.id(), [DIR], 3, LEASE));
        if above {
            session.listener().has_caches_above();
        }
        if leaves {
            session.listener().leave();
        }
        drop(session);
        assert_eq!(sessions.count(), 0);
        assert_eq!(change(&sessions, None).await, expected);
        assert_eq!(change(&sessions, None).await, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lost_its_session_may_believe_anything() {
    let sessions = rig();
    let session = sessions.open("back".to_owned(), None, false);
    session.listener().resumes();
    assert_eq!(change(&sessions, None).await, LEASE);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_it_is_waited_for_is_not_waited_for_any_more() {
    let sessions = rig();
    let mut session = sessions.open("reader".to_owned(), None, false);
    assert!(sessions.may_believe(session.id(), [DIR], 3, LEASE));
    let ends = async {
        told(&mut session).await;
        drop(session);
    };
    let (waited, ()) = tokio::join!(change(&sessions, None), ends);
    assert_eq!(waited, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_a_change_is_not_believed() {
    let sessions = rig();
    let session = sessions.open("reader".to_owned(), None, false);
    change(&sessions, None).await;
    assert!(!sessions.may_believe(session.id(), [DIR], 8, LEASE));
    assert!(sessions.may_believe(session.id(), [DIR], 9, LEASE));
    assert!(sessions.may_believe(session.id(), [InodeId(6)], 8, LEASE));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_waits_as_the_first_does() {
    let sessions = rig();
    let session = sessions.open("reader".to_owned(), None, false);
    assert!(sessions.may_believe(session.id(), [DIR], 3, LEASE));
    let request = RequestId(1);
    let first = sessions.serve(request, None);
    sessions.tell_change(9, &[changed("a")], Change { request, locks: Locks::Names, in_place: false });
    let (again, began) = (sessions.serve(request, None), Instant::now());
    drop(first);
    again.settled().await;
    assert_eq!(began.elapsed(), LEASE);
}

/// Sessions of which the journal knows that session 9 of an earlier master may believe anything for `valid`.
fn recalled(valid: Duration) -> Arc<Sessions> {
    let sessions = rig();
    let valid_ms = u64::try_from(valid.as_millis()).expect("short");
    sessions.recall([(9, ClientSession { client: "mount@n1".to_owned(), valid_ms })]);
    sessions
}

#[tokio::test(start_paused = true)]
async fn who_was_told_by_an_earlier_master_is_waited_for_until_he_is_back_and_has_heard() {
    let sessions = recalled(LEASE);
    assert_eq!(sessions.count(), 0);
    assert!(!sessions.may_believe(9, [DIR], 9, LEASE), "he is not there");
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut session = sessions.open("mount@n1".to_owned(), Some(9), true);
        assert_eq!((session.id(), session.resumes()), (9, true));
        let ticket = told(&mut session).await.ticket;
        tokio::time::sleep(Duration::from_secs(1)).await;
        session.listener().take(&[ticket]);
        session
    };
    let (waited, session) = tokio::join!(change(&sessions, None), comes_back);
    assert_eq!(waited, Duration::from_secs(3));
    assert!(sessions.may_believe(session.id(), [DIR], 9, LEASE));
    assert_eq!(sessions.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_back_and_has_no_caches_above_it_believes_nothing() {
    let sessions = recalled(LEASE);
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let mut session = sessions.open("sdk@n1".to_owned(), Some(9), false);
        let ticket = told(&mut session).await.ticket;
        session.listener().take(&[ticket]);
        session
    };
    let (waited, session) = tokio::join!(change(&sessions, None), comes_back);
    assert_eq!((waited, session.id()), (Duration::from_secs(2), 9));
    assert_eq!(change(&sessions, None).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_delays_changes_until_what_an_earlier_master_told_is_not_valid() {
    // He may have been told for longer than is told now.
    for valid in [LEASE / 3, 2 * LEASE] {
        let sessions = recalled(valid);
        let (one, other) = tokio::join!(change(&sessions, None), change(&sessions, None));
        assert_eq!((one, other), (valid, valid));
        assert_eq!(change(&sessions, None).await, Duration::ZERO);
        assert_eq!(sessions.ended.take(), [9]);
        let session = sessions.open("mount@n1".to_owned(), Some(9), true);
        assert!(session.id() != 9 && !session.resumes());
    }
    let sessions = recalled(LEASE);
    tokio::time::advance(LEASE).await;
    sessions.tidy();
    assert_eq!(sessions.ended.take(), [9], "nobody changed anything meanwhile");
}

#[tokio::test(start_paused = true)]
async fn an_author_of_an_earlier_master_is_not_waited_for() {
    let sessions = recalled(LEASE);
    assert_eq!(change(&sessions, Some(9)).await, Duration::ZERO);
    let mut session = sessions.open("mount@n1".to_owned(), Some(9), true);
    assert!(told(&mut session).await.own, "he hears of it when he is back");
}

#[tokio::test(start_paused = true)]
async fn what_a_broken_connection_took_along_is_told_again() {
    let sessions = rig();
    let mut session = sessions.open("mount@n1".to_owned(), None, true);
    let id = session.id();
    assert!(sessions.may_believe(id, [DIR], 3, LEASE));
    let breaks = async {
        let ticket = told(&mut session).await.ticket;
        drop(session);
        tokio::time::sleep(Duration::from_secs(2)).await;
        sessions.tell(10, &[changed("b")]);
        let mut session = sessions.open("mount@n1".to_owned(), Some(id), true);
        assert_eq!(told(&mut session).await.ticket, 0);
        assert_eq!(told(&mut session).await.ticket, ticket);
        session.listener().take(&[ticket]);
        session
    };
    let (waited, session) = tokio::join!(change(&sessions, None), breaks);
    assert_eq!((waited, session.id()), (Duration::from_secs(2), id));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_older_connection_is_not_that_of_the_session() {
    let sessions = rig();
    let mut first = sessions.open("mount@n1".to_owned(), None, true);
    let mut second = sessions.open("mount@n1".to_owned(), Some(first.id()), true);
    assert_eq!(first.next().await, None);
    drop(first);
    assert_eq!(sessions.count(), 1);
    sessions.tell(9, &[changed("a")]);
    told(&mut second).await;
    drop(second);
    assert_eq!(sessions.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_asked_for_again_waits_though_nobody_waited_for_it_before() {
    let sessions = recalled(LEASE);
    let (request, began) = (RequestId(1), Instant::now());
    let again = sessions.serve(request, None);
    sessions.tell_again(9, &[changed("a")], Change { request, locks: Locks::Names, in_place: false });
    again.settled().await;
    assert_eq!(began.elapsed(), LEASE);
}
