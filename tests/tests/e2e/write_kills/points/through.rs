//! Where a file is stored when it is closed.

use anyhow::Result;

use super::{AT_ONCE, Dies, Kill, Victim, each, each_itself};

const MASTER: [(&str, u32); 23] = [
    ("write::journal", 1),
    ("write::journal", 4),
    ("write::journalled", 1),
    ("write::journalled", 3),
    ("write::journalled", 6),
    ("commit::stored", 1),
    ("commit::stored", 2),
    ("mkdir::stored", 1),
    ("remove::stored", 1),
    ("rename::begun", 1),
    ("relocate::uploading", 9),
    ("relocate::copied", 8),
    ("relocate::journal", 1),
    ("relocate::noted", 1),
    ("relocate::deleted", 6),
    ("relocate::end", 1),
    ("relocate::ended", 1),
    ("relocate::marker", 1),
    ("exchange::begun", 1),
    ("remove-tree::begun", 1),
    ("removal::deleted", 2),
    ("removal::journal", 1),
    ("removal::journalled", 1),
];

const WORKER: [(&str, u32); 4] =
    [("stage::written", 3), ("upload::begun", 1), ("persist::stored", 1), ("persist::stored", 3)];

const MOUNT: [(&str, u32); 7] = [
    ("write::staged", 3),
    ("close::stored", 1),
    ("close::stored", 2),
    ("close::committed", 1),
    ("close::committed", 3),
    ("rename::asked", 1),
    ("rename::asked", 2),
];

/// Points at which the store is killed, by whom passes them.
const STORE: [(Victim, &str, u32); 21] = [
    // What is being moved is tried again after half a minute: at the same time.
    (Victim::Master, "rename::begun", 1),
    (Victim::Master, "relocate::uploading", 9),
    (Victim::Master, "relocate::copied", 8),
    (Victim::Master, "relocate::noted", 1),
    (Victim::Master, "relocate::deleted", 6),
    (Victim::Master, "relocate::end", 1),
    (Victim::Worker, "persist::stored", 3),
    (Victim::Mount, "close::committed", 1),
    (Victim::Master, "write::journal", 3),
    (Victim::Master, "write::journalled", 4),
    (Victim::Master, "commit::stored", 1),
    (Victim::Master, "mkdir::stored", 1),
    (Victim::Master, "remove::stored", 1),
    (Victim::Worker, "upload::begun", 1),
    (Victim::Worker, "persist::stored", 1),
    (Victim::Mount, "close::stored", 1),
    (Victim::Master, "exchange::begun", 1),
    (Victim::Master, "remove-tree::begun", 1),
    (Victim::Master, "removal::deleted", 2),
    (Victim::Master, "removal::journal", 1),
    (Victim::Master, "removal::journalled", 1),
];

/// Points of the master at which others are killed.
const OTHERS: [(&str, u32); 6] = [
    ("rename::begun", 1),
    ("relocate::copied", 8),
    ("relocate::deleted", 6),
    ("remove::stored", 1),
    ("exchange::begun", 1),
    ("removal::deleted", 2),
];

/// Points at which all are killed at once, beside [`OTHERS`].
const EVERYTHING: [(Victim, &str, u32); 4] = [
    (Victim::Master, "write::journalled", 3),
    (Victim::Master, "commit::stored", 1),
    (Victim::Worker, "stage::written", 1),
    (Victim::Mount, "close::stored", 2),
];

#[test]
fn a_master_killed_at_any_named_point_is_taken_up_where_it_was() -> Result<()> {
    each_itself("through", Victim::Master, &MASTER)
}

#[test]
fn a_worker_killed_at_any_named_point_stores_all_or_nothing() -> Result<()> {
    each_itself("through", Victim::Worker, &WORKER)
}

#[test]
fn a_mount_killed_at_any_named_point_has_told_the_truth() -> Result<()> {
    each_itself("through", Victim::Mount, &MOUNT)
}

#[test]
fn a_store_killed_at_any_named_point_loses_nothing_that_was_told() -> Result<()> {
    let kills = STORE.map(|(passes, point, pass)| Kill::new("through", passes, point, pass, Dies::Store));
    each(kills, 2 * AT_ONCE)
}

#[test]
fn whoever_is_killed_while_a_master_works_finds_it_done_or_not_begun() -> Result<()> {
    let of = |victim| OTHERS.map(|(point, pass)| Kill::new("through", Victim::Master, point, pass, Dies::All(victim)));
    let others = [Victim::Mount, Victim::Everything, Victim::Worker].into_iter().flat_map(of);
    let all = Dies::All(Victim::Everything);
    let everything = EVERYTHING.map(|(passes, point, pass)| Kill::new("through", passes, point, pass, all));
    each(others.chain(everything), 2 * AT_ONCE)
}
