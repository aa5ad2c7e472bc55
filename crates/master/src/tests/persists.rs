//! What workers hold, on its way to the store.

mod moved;

use headpond_namespace::{Due, Durability};
use headpond_types::{ErrorKind, Member, WorkerId};
use headpond_ufs::{Key, UnderStore, UploadMark};

use super::{
    INTERVAL,
    holders::{Bed, persistence},
    writing::request,
};
use crate::{
    persist::State,
    workers::Report,
    write::{Opened, PATIENCE},
};

#[tokio::test]
async fn a_file_is_seen_when_it_is_closed_and_stored_afterwards() {
    let bed = Bed::new(Durability::Async, &["old"]).await;
    bed.holder.close();
    let (inode, content) = bed.hold("/m/d-new", "bytes").await;
    let attr = bed.find("/m/d-new").await.expect("asked").expect("is there");
    assert!(attr.dirty && attr.version.is_empty());
    assert_eq!((attr.size, attr.content), (5, Some(content)));
    assert_eq!(bed.keys().await, ["old"]);
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.object("d-new").await, "bytes");
    let stored = bed.find("/m/d-new").await.expect("asked").expect("is there");
    assert_eq!((stored.inode, stored.size, stored.content, stored.dirty), (inode, 5, Some(content), false));
    assert_eq!(stored.version, bed.store.head(&Key::from("d-new")).await.expect("is there").version);
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["d-new", "old"]);
    assert_eq!(bed.find("/m/d-new").await.expect("asked"), Some(stored));
}

#[tokio::test]
async fn what_is_written_again_replaces_what_was_stored() {
    let bed = Bed::new(Durability::Async, &["f"]).await;
    for body in ["one", "two, longer"] {
        bed.hold("/m/f", body).await;
        bed.persisted().await;
        assert_eq!(bed.object("f").await, body);
    }
    // While the first is on its way, too.
    bed.holder.close();
    bed.hold("/m/g", "one").await;
    while !bed.puts_wait().await {
        tokio::task::yield_now().await;
    }
    bed.hold("/m/g", "two").await;
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.object("g").await, "two");
}

#[tokio::test]
async fn what_may_not_wait_for_the_store_is_stored_before_it_is_acknowledged() {
    let bed = Bed::new(Durability::Async, &[]).await;
    let lease = bed.create("/m/f").await.expect("opened").lease.expect("a file");
    // An earlier version has to be in the store first.
    bed.holder.close();
    let grant = bed.copies_grant(lease).await.expect("granted");
    bed.commit_held(&grant, "one").await.expect("committed");
    assert_eq!(bed.writing().write_through(lease).await.expect_err("it waits").kind(), ErrorKind::Busy);
    bed.holder.open();
    bed.persisted().await;
    let staging = bed.writing().write_through(lease).await.expect("allowed");
    assert!(bed.writing().offer(lease).is_none(), "what was offered is for workers to hold");
    assert_eq!(bed.upload_key(lease).await.expect("granted"), "f");
    bed.persist(lease, "two").await.expect("committed");
    assert_eq!(bed.object("f").await, "two");
    // So it stays when the master has forgotten the lease.
    let version = bed.find("/m/f").await.expect("asked").expect("is there").version;
    let bed = bed.restart().await;
    assert!(!bed.writing().reclaim(&staging, &version).await.expect("given back"));
    bed.persist(lease, "three").await.expect("committed");
    assert_eq!((bed.object("f").await, bed.is_persisted()), ("three".to_owned(), true));
    bed.writing().end(lease).await.expect("ended");
    // The next who writes it does as the mount says.
    bed.holder.close();
    bed.hold("/m/f", "four").await;
    assert_eq!(bed.object("f").await, "three");

    let bed = Bed::new(Durability::Scratch, &[]).await;
    let lease = bed.create("/m/f").await.expect("opened").lease.expect("a file");
    assert_eq!(bed.writing().write_through(lease).await.expect_err("never").kind(), ErrorKind::NotSupported);
}

#[tokio::test]
async fn what_a_lost_worker_was_sending_goes_when_another_has_stored_the_file() {
    let bed = Bed::new(Durability::Async, &[]).await;
    let (core, mount) = (&bed.master.core, bed.mount().id);
    let member = Member {
        id: WorkerId(99),
        address: "127.0.0.1:1".to_owned(),
        socket: String::new(),
        node: String::new(),
        zone: String::new(),
        weight: 1,
    };
    let epoch = core.workers.register(member, 1 << 30);
    let mut uploads = Vec::new();
    for key in ["f", "other"] {
        let key = Key::from(key);
        let upload = bed.store.create_multipart(&key).await.expect("begun");
        uploads.push((mount, UploadMark { key, upload }));
    }
    // Somebody else's: no worker has told of it.
    let foreign = bed.store.create_multipart(&Key::from("f")).await.expect("begun");
    let sent = uploads[0].1.upload.clone();
    core.workers.heartbeat(WorkerId(99), epoch, Report { uploads, ..Report::default() }).expect("live");
    bed.hold("/m/f", "instead").await;
    bed.persisted().await;
    while bed.uploads_to("f").await.contains(&sent) {
        tokio::task::yield_now().await;
    }
    assert_eq!((bed.uploads_to("f").await, bed.uploads_to("other").await.len()), (vec![foreign], 1));
}

impl Bed {
    /// Multipart uploads to a key.
    async fn uploads_to(&self, key: &str) -> Vec<String> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.store.uploads(after.as_ref()).await.expect("listed");
            found.extend(
                page.uploads.into_iter().filter(|mark| mark.key.as_bytes() == key.as_bytes()).map(|mark| mark.upload),
            );
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    }

    /// Whether something is at work.
    async fn puts_wait(&self) -> bool {
        let core = &self.master.core;
        let mount = self.mount().id;
        let rows = core.catalog.snapshot().and_then(|snapshot| snapshot.all_dirty((0, headpond_types::InodeId(0)), 10));
        rows.expect("reads").iter().any(|row| row.key.is_some() && core.backlog.is_at_work(mount, row.inode))
    }
}

#[tokio::test]
async fn a_temporary_name_is_not_stored_until_it_is_renamed() {
    let bed = Bed::new(Durability::Deferred, &[]).await;
    bed.make_directory("/m/out").await.expect("made");
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["out/"]);
    bed.make_directory("/m/out/_temporary").await.expect("made");
    bed.make_directory("/m/out/_temporary/0").await.expect("made");
    let (file, _) = bed.hold("/m/out/_temporary/0/part", "part").await;
    let (gone, _) = bed.hold("/m/out/_temporary/0/failed", "gone").await;
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["out/"]);
    assert_eq!(bed.due(file), Some(Due::WhenRenamed));
    bed.rename("/m/out/_temporary/0/part", "/m/out/part").await.expect("renamed");
    bed.unlink("/m/out/_temporary/0/failed").await.expect("removed");
    bed.remove_directory("/m/out/_temporary/0").await.expect("removed");
    bed.remove_directory("/m/out/_temporary").await.expect("removed");
    bed.persisted().await;
    assert_eq!((bed.object("out/part").await, bed.due(gone)), ("part".to_owned(), None));
    assert_eq!(bed.keys().await, ["out/", "out/part"]);
    assert_eq!(bed.holder.puts(), ["out/part"]);
}

#[tokio::test]
async fn a_renamed_directory_has_all_below_stored() {
    let bed = Bed::new(Durability::Deferred, &[]).await;
    bed.make_directory("/m/_temporary").await.expect("made");
    bed.make_directory("/m/_temporary/t").await.expect("made");
    bed.make_directory("/m/_temporary/t/empty").await.expect("made");
    bed.make_directory("/m/_temporary/t/sub").await.expect("made");
    for n in 0..5 {
        bed.hold(&format!("/m/_temporary/t/sub/f{n}"), &n.to_string()).await;
    }
    bed.hold("/m/_temporary/t/sub/_SUCCESS", "").await;
    bed.hold("/m/_temporary/t/top", "top").await;
    bed.rename("/m/_temporary/t", "/m/out").await.expect("renamed");
    bed.persisted().await;
    let mut expected: Vec<_> = (0..5).map(|n| format!("out/sub/f{n}")).collect();
    expected.insert(0, "out/sub/_SUCCESS".to_owned());
    expected.insert(0, "out/empty/".to_owned());
    expected.push("out/top".to_owned());
    let mut keys = bed.keys().await;
    // Needless once the files are there, but nobody waits for those for long.
    keys.retain(|key| !["out/", "out/sub/"].contains(&&key[..]));
    assert_eq!(keys, expected, "one object for each file, and a marker where there is none");
    assert_eq!(bed.holder.puts().last().expect("put"), "out/sub/_SUCCESS");
    let tree = bed.master.core.catalog.snapshot().expect("reads").all_dirty((0, headpond_types::InodeId(0)), 10);
    let left = tree.expect("reads");
    assert!(left.iter().all(|row| row.due == Due::WhenRenamed), "{left:?}");
}

#[tokio::test]
async fn who_looks_for_what_was_renamed_makes_nothing_of_a_directory_due_ahead_of_its_turn() {
    let bed = Bed::new(Durability::Deferred, &[]).await;
    bed.holder.close();
    bed.make_directory("/m/_temporary").await.expect("made");
    let (core, top) = (&bed.master.core, bed.inode("/m").await);
    for round in 0..10 {
        bed.make_directory("/m/_temporary/t").await.expect("made");
        let mut files = Vec::new();
        for n in 0..50 {
            files.push(bed.hold(&format!("/m/_temporary/t/f{n}"), "").await.0);
        }
        let out = format!("/m/out-{round}");
        let is_renamed = async || {
            while bed.find(&out).await.expect("asked").is_none() {
                tokio::task::yield_now().await;
            }
        };
        let (renamed, ..) = tokio::join!(
            bed.rename("/m/_temporary/t", &out),
            async {
                is_renamed().await;
                core.persister.release_renamed().await;
            },
            async {
                is_renamed().await;
                core.persister.persist_below(top).await.expect("asked for");
            },
        );
        renamed.expect("renamed");
        let number = |inode| {
            let row = core.catalog.snapshot().expect("reads").dirty(inode).expect("reads").expect("is dirty");
            (row.due == Due::Now).then_some(row.number)
        };
        let tree = number(bed.inode(&out).await).expect("is due");
        for file in files {
            while number(file).is_none() {
                tokio::task::yield_now().await;
            }
            assert_eq!(number(file), Some(tree), "round {round}");
        }
    }
    bed.holder.open();
    bed.persisted().await;
}

#[tokio::test]
async fn scratch_is_stored_when_somebody_asks_for_it() {
    let bed = Bed::new(Durability::Scratch, &[]).await;
    bed.make_directory("/m/d").await.expect("made");
    let (file, _) = bed.hold("/m/d/f", "bytes").await;
    assert_eq!((bed.due(file), bed.keys().await), (Some(Due::Never), vec![]));
    let core = &bed.master.core;
    let (top, path) = (bed.inode("/m").await, "/m".parse().expect("a path"));
    let (listed, amounts) = core.persister.dirty_below(top, &path, u64::MAX).expect("reads");
    assert_eq!((amounts.due.items, amounts.not_due.items, amounts.not_due.bytes), (0, 2, 5));
    assert!(listed.iter().all(|dirty| dirty.state == State::Scratch), "{listed:?}");
    assert_eq!(core.persister.persist_below(top).await.expect("asked for"), 1);
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["d/f"]);
    assert_eq!(core.persister.persist_below(top).await.expect("asked for"), 0);
}

#[tokio::test]
async fn a_restart_goes_on_from_the_rows() {
    let bed = Bed::new(Durability::Deferred, &["old"]).await;
    bed.holder.close();
    bed.make_directory("/m/_temporary").await.expect("made");
    bed.make_directory("/m/_temporary/t").await.expect("made");
    bed.hold("/m/_temporary/t/f", "f").await;
    bed.hold("/m/old", "new").await;
    bed.hold("/m/_SUCCESS", "").await;
    bed.rename("/m/_temporary/t", "/m/out").await.expect("renamed");
    let bed = bed.restart().await;
    assert_eq!(bed.keys().await, ["old"]);
    assert!(bed.find("/m/out/f").await.expect("asked").is_some_and(|attr| attr.dirty));
    bed.holder.open();
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["_SUCCESS", "old", "out/f"]);
    assert_eq!(bed.object("old").await, "new");
    assert_eq!(bed.holder.puts(), ["old", "_SUCCESS", "out/f"]);
}

#[tokio::test]
async fn what_is_removed_before_it_is_stored_never_is() {
    let bed = Bed::new(Durability::Async, &["old"]).await;
    let (_, content) = bed.hold("/m/lost", "x").await;
    bed.persisted().await;
    bed.holder.close();
    bed.holder.lose(content);
    bed.hold("/m/f", "f").await;
    while !bed.puts_wait().await {
        tokio::task::yield_now().await;
    }
    let removed = async {
        tokio::task::yield_now().await;
        bed.holder.open();
    };
    let (gone, ()) = futures::join!(bed.unlink("/m/f"), removed);
    gone.expect("waited for what was on its way");
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["lost", "old"]);
    // A put of which the answer was lost.
    bed.holder.be_unreliable(3, 0.999, std::time::Duration::ZERO);
    bed.hold("/m/g", "g").await;
    while bed.master.core.persister.list_problems().expect("reads").is_empty() {
        tokio::task::yield_now().await;
    }
    bed.unlink("/m/g").await.expect("removed");
    bed.persisted().await;
    assert_eq!(bed.keys().await, ["lost", "old"], "what may have been put is deleted");
    assert_eq!(bed.list("/m").await.expect("listed"), ["lost", "old"]);
}

#[tokio::test]
async fn a_file_that_is_put_is_renamed_at_once() {
    let bed = Bed::new(Durability::Async, &[]).await;
    bed.holder.close();
    bed.make_directory("/m/a").await.expect("made");
    bed.hold("/m/a/f", "f").await;
    bed.hold("/m/g", "g").await;
    while bed.keys().await != ["a/"] && !bed.puts_wait().await {
        tokio::task::yield_now().await;
    }
    bed.rename("/m/a", "/m/b").await.expect("does not wait");
    bed.rename("/m/g", "/m/h").await.expect("does not wait");
    bed.holder.open();
    bed.persisted().await;
    bed.relocated().await;
    assert_eq!((bed.object("b/f").await, bed.object("h").await), ("f".to_owned(), "g".to_owned()));
    assert!(bed.keys().await.iter().all(|key| !key.starts_with("a/") && key != "g"), "{:?}", bed.keys().await);
}

#[tokio::test]
async fn a_commit_file_waits_in_through_for_what_was_moved_and_held() {
    let mut persistence = persistence(Durability::Through);
    persistence.rules = vec![("held".to_owned(), Durability::Async)];
    let bed = Bed::with(persistence, &[]).await;
    bed.make_directory("/m/held").await.expect("made");
    bed.holder.close();
    bed.hold("/m/held/f", "f").await;
    bed.write("/m/plain", "does not wait").await;
    let Opened { lease, .. } = bed.create("/m/_SUCCESS").await.expect("made");
    let lease = lease.expect("a file");
    tokio::time::pause();
    let busy = bed.writing().prepare(lease, None, PATIENCE).await.expect_err("held is not there");
    assert_eq!(busy.kind(), ErrorKind::Busy);
    tokio::time::resume();
    bed.holder.open();
    bed.hold("/m/held/later", "is not waited for").await;
    let grant = bed.persist_grant(lease).await.expect("waited");
    assert_eq!(bed.object("held/f").await, "f");
    let meta = bed.store_staged(&grant, "").await.expect("stored");
    bed.commit(&grant, &meta, request()).await.expect("committed");
}

#[tokio::test]
async fn fewer_workers_than_a_mount_demands_are_an_error() {
    let mut strict = persistence(Durability::Async);
    (strict.copies, strict.strict_copies) = (2, true);
    let bed = Bed::with(strict, &[]).await;
    let lease = bed.create("/m/f").await.expect("made").lease.expect("a file");
    let error = bed.copies_grant(lease).await.expect_err("one is live");
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("strict"), "{error}");
    let mut lax = persistence(Durability::Async);
    lax.copies = 2;
    let bed = Bed::with(lax, &[]).await;
    bed.hold("/m/f", "f").await;
}

#[tokio::test]
async fn an_empty_directory_that_no_store_has_stays() {
    let bed = Bed::new(Durability::Deferred, &["old"]).await;
    bed.make_directory("/m/_temporary").await.expect("made");
    bed.make_directory("/m/_temporary/t").await.expect("made");
    bed.hold("/m/_temporary/t/f", "f").await;
    bed.rename("/m/_temporary/t", "/m/out").await.expect("renamed");
    assert_eq!(bed.list("/m").await.expect("listed"), ["_temporary/", "old", "out/"]);
    bed.persisted().await;
    assert_eq!(bed.list("/m").await.expect("listed"), ["_temporary/", "old", "out/"]);
    bed.advance(INTERVAL);
    assert_eq!(bed.list("/m").await.expect("listed"), ["_temporary/", "old", "out/"]);
    bed.advance(INTERVAL);
    assert_eq!(bed.tree("/m").await.expect("listed"), ["_temporary/", "old", "out/", "out/f"]);
}
