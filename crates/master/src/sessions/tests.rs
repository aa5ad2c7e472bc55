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
    let mut session = sessions.open("mount@n1".to_owned());
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
    let mut session = sessions.open("slow".to_owned());
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
    let (mut reader, mut other) = (sessions.open("reader".to_owned()), sessions.open("other".to_owned()));
    let author = sessions.open("author".to_owned());
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
    let reader = sessions.open("reader".to_owned());
    assert_eq!(change(&sessions, None).await, Duration::ZERO);
    assert!(sessions.may_believe(reader.id(), [DIR], 9, LEASE));
    tokio::time::advance(LEASE).await;
    assert_eq!(change(&sessions, None).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_does_not_hear_delays_one_change_until_it_believes_nothing() {
    let sessions = rig();
    let mut dead = sessions.open("dead".to_owned());
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
        let session = sessions.open("gone".to_owned());
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
    let session = sessions.open("back".to_owned());
    session.listener().resumes();
    assert_eq!(change(&sessions, None).await, LEASE);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_while_it_is_waited_for_is_not_waited_for_any_more() {
    let sessions = rig();
    let mut session = sessions.open("reader".to_owned());
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
    let session = sessions.open("reader".to_owned());
    change(&sessions, None).await;
    assert!(!sessions.may_believe(session.id(), [DIR], 8, LEASE));
    assert!(sessions.may_believe(session.id(), [DIR], 9, LEASE));
    assert!(sessions.may_believe(session.id(), [InodeId(6)], 8, LEASE));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_waits_as_the_first_does() {
    let sessions = rig();
    let session = sessions.open("reader".to_owned());
    assert!(sessions.may_believe(session.id(), [DIR], 3, LEASE));
    let request = RequestId(1);
    let first = sessions.serve(request, None);
    sessions.tell_change(9, &[changed("a")], Change { request, locks: Locks::Names, in_place: false });
    let (again, began) = (sessions.serve(request, None), Instant::now());
    drop(first);
    again.settled().await;
    assert_eq!(began.elapsed(), LEASE);
}
