//! Where files are stored only after they were closed, or renamed from a temporary name.

use anyhow::Result;

use super::{AT_ONCE, Dies, Kill, Victim, each};

/// Points with at which pass they kill who passes them, on mounts that store what was closed.
const ASYNC: [(Victim, &str, u32); 23] = [
    // They wait longest.
    (Victim::Mount, "write::staged", 3),
    (Victim::Mount, "close::stored", 2),
    (Victim::Mount, "close::committed", 3),
    (Victim::Mount, "rename::asked", 1),
    (Victim::Master, "write::journalled", 3),
    (Victim::Master, "commit::held", 2),
    (Victim::Master, "remove::stored", 1),
    (Victim::Master, "rename::begun", 1),
    (Victim::Master, "exchange::begun", 1),
    (Victim::Master, "remove-tree::begun", 1),
    (Victim::Master, "persist::begin", 1),
    (Victim::Master, "persist::begun", 1),
    (Victim::Master, "persist::copied", 1),
    (Victim::Master, "persist::stored", 2),
    (Victim::Master, "persist::ended", 3),
    (Victim::Master, "relocate::copied", 8),
    (Victim::Master, "relocate::deleted", 6),
    (Victim::Master, "removal::journal", 1),
    (Victim::Worker, "durable::kept", 2),
    (Victim::Worker, "mirror::copied", 1),
    (Victim::Worker, "upload::begun", 1),
    (Victim::Worker, "later::stored", 1),
    (Victim::Worker, "later::stored", 4),
];

/// The same on mounts that store what has a temporary name when it is renamed.
const DEFERRED: [(Victim, &str, u32); 9] = [
    (Victim::Mount, "rename::asked", 4),
    (Victim::Master, "commit::held", 5),
    (Victim::Master, "rename::begun", 4),
    (Victim::Master, "persist::due", 1),
    (Victim::Master, "persist::begun", 2),
    (Victim::Master, "persist::ended", 1),
    (Victim::Worker, "stage::written", 1),
    (Victim::Worker, "durable::kept", 5),
    (Victim::Worker, "later::stored", 5),
];

/// The same on mounts that store nothing until somebody asks for it.
const SCRATCH: [(Victim, &str, u32); 10] = [
    (Victim::Mount, "write::staged", 3),
    (Victim::Mount, "close::committed", 3),
    (Victim::Master, "write::journalled", 3),
    (Victim::Master, "commit::held", 2),
    (Victim::Master, "remove::stored", 1),
    (Victim::Master, "rename::begun", 1),
    (Victim::Master, "exchange::begun", 1),
    (Victim::Worker, "stage::written", 1),
    (Victim::Worker, "durable::kept", 2),
    (Victim::Worker, "mirror::copied", 1),
];

/// Points at which the store is killed, and then all but the store.
const OTHERS: [(&str, Victim, &str, u32); 8] = [
    ("async", Victim::Master, "relocate::copied", 8),
    ("async", Victim::Master, "persist::begun", 1),
    ("async", Victim::Master, "persist::stored", 3),
    ("async", Victim::Worker, "later::stored", 2),
    ("async", Victim::Master, "commit::held", 2),
    ("async", Victim::Master, "rename::begun", 1),
    ("deferred", Victim::Master, "persist::due", 1),
    ("scratch", Victim::Worker, "durable::kept", 2),
];

fn each_itself(durability: &'static str, points: &[(Victim, &'static str, u32)]) -> Result<()> {
    let kill = |(passes, point, pass): &(Victim, &'static str, u32)| {
        Kill::new(durability, *passes, point, *pass, Dies::Itself)
    };
    each(points.iter().map(kill), 2 * AT_ONCE)
}

#[test]
fn who_is_killed_at_any_named_point_before_files_are_stored_loses_none() -> Result<()> {
    each_itself("async", &ASYNC)
}

#[test]
fn who_is_killed_at_any_named_point_before_names_are_stored_loses_none() -> Result<()> {
    each_itself("deferred", &DEFERRED)
}

#[test]
fn who_is_killed_at_any_named_point_where_nothing_is_stored_loses_none() -> Result<()> {
    each_itself("scratch", &SCRATCH)
}

#[test]
fn a_store_or_everything_killed_before_files_are_stored_loses_none() -> Result<()> {
    let dying = [Dies::Store, Dies::All(Victim::Everything)].into_iter();
    each(
        dying.flat_map(|dies| {
            OTHERS.map(|(durability, passes, point, pass)| Kill::new(durability, passes, point, pass, dies))
        }),
        2 * AT_ONCE,
    )
}
