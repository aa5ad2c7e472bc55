//! Commands of masters and administrators: terms, workers, and requests that come twice.

use headpond_journal::{Position, StateMachine as _};
use headpond_types::{RequestId, Timestamp, WorkerId};
use redb::TableDefinition;

use super::{Bed, ROOT, add, path};
use crate::{ClientSession, Command, Outcome, Refusal, Reply};

impl Bed {
    /// Makes as many others as are remembered.
    fn forget_requests(&mut self) {
        let noise = |n| Command::RemoveMount { request: RequestId(n), path: path("/none"), now: Timestamp(6) };
        let noise: Vec<_> = (10..10 + 4096).map(noise).collect();
        self.index += 1;
        let at = Position { term: 1, index: self.index };
        self.namespace().apply(at, &noise.iter().collect::<Vec<_>>()).expect("applies");
    }
}

#[test]
fn the_cluster_is_named_once() {
    let mut bed = Bed::new();
    assert_eq!(bed.snapshot().cluster().expect("reads"), None);
    assert_eq!(bed.apply(&Command::SetCluster { cluster: 5 }).reply, Reply::Cluster(5));
    assert_eq!(bed.apply(&Command::SetCluster { cluster: 6 }).reply, Reply::Cluster(5));
    bed.reopen();
    assert_eq!(bed.snapshot().cluster().expect("reads"), Some(5));
}

#[test]
fn terms_grow_and_workers_keep_their_ids_across_restarts() {
    let mut bed = Bed::new();
    assert_eq!(bed.apply(&Command::BeginTerm).reply, Reply::Term(1));
    let register = |uuid: &str| Command::RegisterWorker { uuid: uuid.to_owned() };
    assert_eq!(bed.apply(&register("a")).reply, Reply::Worker(WorkerId(1)));
    assert_eq!(bed.apply(&register("b")).reply, Reply::Worker(WorkerId(2)));
    bed.reopen();
    assert_eq!(bed.apply(&Command::BeginTerm).reply, Reply::Term(2));
    assert_eq!(bed.apply(&register("b")).reply, Reply::Worker(WorkerId(2)));
    assert_eq!(bed.apply(&Command::Noop), Outcome { reply: Reply::Done, effects: vec![] });
}

#[test]
fn sessions_outlive_restarts_until_they_end() {
    let mut bed = Bed::new();
    let session = |valid_ms| ClientSession { client: "mount at n1".to_owned(), valid_ms };
    for (id, valid_ms) in [(9, 5), (u64::MAX, 5), (9, 30_000)] {
        let outcome = bed.apply(&Command::BeginSession { id, session: session(valid_ms) });
        assert_eq!(outcome, Outcome { reply: Reply::Done, effects: vec![] });
    }
    bed.reopen();
    let known = bed.namespace().sessions().expect("reads");
    assert_eq!(known, [(9, session(30_000)), (u64::MAX, session(5))]);
    bed.apply(&Command::EndSessions { ids: vec![7, u64::MAX] });
    bed.reopen();
    assert_eq!(bed.namespace().sessions().expect("reads"), [(9, session(30_000))]);
}

#[test]
fn a_repeated_request_gets_the_first_answer_also_after_a_restart() {
    let mut bed = Bed::new();
    let first = bed.apply(&add(1, "/m"));
    let remove = Command::RemoveMount { request: RequestId(2), path: path("/m"), now: Timestamp(6) };
    assert_eq!(bed.apply(&remove).reply, Reply::Done);
    let refused = bed.apply(&Command::RemoveMount { request: RequestId(3), path: path("/m"), now: Timestamp(6) });
    bed.reopen();
    assert_eq!(bed.snapshot().reply(RequestId(1)).expect("reads").as_ref(), Some(&first.reply));
    assert_eq!(bed.snapshot().reply(RequestId(9)).expect("reads"), None);
    assert_eq!(bed.apply(&add(1, "/m")), Outcome { reply: first.reply, effects: vec![] });
    assert_eq!(bed.apply(&remove), Outcome { reply: Reply::Done, effects: vec![] });
    bed.mount("/m");
    assert_eq!(
        bed.apply(&Command::RemoveMount { request: RequestId(3), path: path("/m"), now: Timestamp(6) }),
        refused
    );
    assert_eq!(bed.names(ROOT), ["m"]);
}

#[test]
fn a_release_that_remembered_fewer_requests_leaves_a_gap() {
    let mut bed = Bed::new();
    bed.apply(&add(1, "/m"));
    bed.apply(&add(2, "/n"));
    bed.change_tables(|txn| {
        let order: TableDefinition<'_, u64, u128> = TableDefinition::new("request_order");
        let forgotten = txn.open_table(order).expect("opens").remove(0).expect("removes").map(|id| id.value());
        assert_eq!(forgotten, Some(1));
    });
    bed.forget_requests();
    let remove = Command::RemoveMount { request: RequestId(2), path: path("/n"), now: Timestamp(6) };
    assert_eq!(bed.apply(&remove).reply, Reply::Done, "the second is forgotten in its turn");
}

#[test]
fn the_oldest_requests_are_forgotten() {
    let mut bed = Bed::new();
    bed.apply(&add(1, "/m"));
    let remove = Command::RemoveMount { request: RequestId(2), path: path("/m"), now: Timestamp(6) };
    bed.apply(&remove);
    bed.forget_requests();
    assert_eq!(bed.apply(&remove).reply, Reply::Refused(Refusal::NoMount(path("/m"))));
}
