//! Mounts: where they may be, what they hide, and what goes with them.

use headpond_types::{MountId, Timestamp};

use super::{Bed, ROOT, described, dir, entry, file, name, path, refused};
use crate::{Command, Effect, Location, Mount, Refusal, Reply};

#[test]
fn a_mount_makes_the_directories_above_it_and_takes_them_along() {
    let mut bed = Bed::new();
    let outcome = bed.mount("/a/b/c");
    let (a, b, c) = (bed.id("/a"), bed.id("/a/b"), bed.id("/a/b/c"));
    let mount = Mount { id: MountId(1), ..described("/a/b/c") };
    assert_eq!(outcome.reply, Reply::Mount(mount.clone()));
    assert_eq!(outcome.effects, [entry(ROOT, "a", None), entry(a, "b", None), entry(b, "c", None), Effect::Mounts]);
    let snapshot = bed.snapshot();
    assert_eq!(snapshot.mounts().expect("reads"), [mount]);
    assert_eq!(snapshot.mount_root(MountId(1)).expect("reads"), Some(c));
    assert_eq!(snapshot.location(a).expect("reads"), None);
    let bare = snapshot.attr(a).expect("reads").expect("is there");
    assert_eq!((bare.mount, bare.mode, bare.uid), (MountId(0), 0o755, 0));
    assert_eq!(bed.upsert(a, &[file("x", 1)]), [], "nothing is seen outside mounts");

    bed.mount("/a/d");
    let outcome = bed.unmount("/a/b/c");
    assert_eq!(outcome.reply, Reply::Done);
    assert_eq!(outcome.effects, [entry(b, "c", Some(c)), entry(a, "b", Some(b)), Effect::Mounts]);
    assert_eq!(bed.names(ROOT), ["a"]);
    assert_eq!(bed.names(a), ["d"]);
    bed.unmount("/a/d");
    assert_eq!(bed.names(ROOT), [""; 0]);
    assert_eq!(bed.snapshot().mounts().expect("reads"), []);
}

#[test]
fn mounts_are_refused_where_they_cannot_be() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[file("f", 1)]);
    bed.mount("/m");
    assert_eq!(bed.mount("/m"), refused(Refusal::MountExists(path("/m"))));
    assert_eq!(bed.mount("/f"), refused(Refusal::NotADirectory(path("/f"))));
    assert_eq!(bed.mount("/f/x/y"), refused(Refusal::NotADirectory(path("/f"))));
    assert_eq!(bed.unmount("/"), refused(Refusal::MountsBelow(path("/"), path("/m"))));
    assert_eq!(bed.unmount("/x"), refused(Refusal::NoMount(path("/x"))));
    assert_eq!(bed.snapshot().mounts().expect("reads").len(), 2);
}

#[test]
fn a_mount_point_hides_what_the_store_around_it_has_there() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.upsert(d, &[file("hidden", 1), dir("m")]);
    bed.effects(&Command::MarkListed { dir: d, at: Timestamp(60), skipped: 0 });
    let old = bed.id("/d/m");
    bed.upsert(old, &[file("below", 2)]);

    let outcome = bed.mount("/d/m");
    let root = bed.id("/d/m");
    assert_eq!(outcome.effects, [entry(d, "m", Some(old)), Effect::Mounts]);
    assert_eq!(bed.names(root), [""; 0]);
    assert_eq!(
        bed.snapshot().location(root).expect("reads"),
        Some(Location { mount: MountId(2), names: vec![], key: vec![] })
    );
    assert_eq!(
        bed.snapshot().location(d).expect("reads"),
        Some(Location { mount: MountId(1), names: vec![name("d")], key: b"d".to_vec() })
    );

    assert_eq!(bed.upsert(d, &[file("m", 9)]), [], "a file of that name in the store around is hidden");
    assert_eq!(bed.upsert(ROOT, &[file("d", 9)]), [], "so is one in the way of the mount point");
    assert_eq!(bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] }), []);
    assert_eq!(bed.effects(&Command::Forget { dir: d, entries: vec![(name("m"), root)] }), []);
    assert_eq!(bed.id("/d/m"), root);

    bed.upsert(root, &[file("f", 3)]);
    let f = bed.id("/d/m/f");
    assert_eq!(bed.snapshot().path(f).expect("reads"), Some(path("/d/m/f")));
    assert_eq!(
        bed.snapshot().location(f).expect("reads"),
        Some(Location { mount: MountId(2), names: vec![name("f")], key: b"f".to_vec() })
    );

    bed.upsert(ROOT, &[dir("d")]);
    let outcome = bed.unmount("/d/m");
    assert_eq!(outcome.effects, [entry(d, "m", Some(root)), Effect::Mounts]);
    assert_eq!(bed.snapshot().attr(f).expect("reads"), None);
    assert_eq!(bed.names(d), ["hidden"]);
    assert_eq!(bed.snapshot().listed(d).expect("reads"), None, "what the mount hid is to be listed");
}

#[test]
fn a_directory_that_only_a_mount_kept_goes_with_it() {
    let mut bed = Bed::mounted();
    bed.upsert(ROOT, &[dir("d")]);
    let d = bed.id("/d");
    bed.mount("/d/m");
    let root = bed.id("/d/m");
    bed.effects(&Command::Forget { dir: ROOT, entries: vec![(name("d"), d)] });
    assert_eq!(bed.unmount("/d/m").effects, [entry(d, "m", Some(root)), entry(ROOT, "d", Some(d)), Effect::Mounts]);
    assert_eq!(bed.find("/d"), None);
}

#[test]
fn a_mount_around_others_keeps_them_and_drops_the_rest() {
    let mut bed = Bed::mounted();
    bed.mount("/a/b/c");
    let (a, b, c) = (bed.id("/a"), bed.id("/a/b"), bed.id("/a/b/c"));
    bed.upsert(b, &[file("old", 1)]);
    bed.upsert(c, &[file("f", 2)]);
    let f = bed.id("/a/b/c/f");

    let outcome = bed.mount("/a");
    let (new_a, new_b) = (bed.id("/a"), bed.id("/a/b"));
    assert_eq!(
        outcome.effects,
        [entry(ROOT, "a", Some(a)), entry(new_a, "b", Some(b)), entry(new_b, "c", None), Effect::Mounts]
    );
    assert_eq!((bed.id("/a/b/c"), bed.id("/a/b/c/f")), (c, f));
    assert_eq!(bed.names(new_b), ["c"]);
    let snapshot = bed.snapshot();
    assert_eq!(snapshot.path(f).expect("reads"), Some(path("/a/b/c/f")));
    assert_eq!(
        snapshot.location(new_b).expect("reads"),
        Some(Location { mount: MountId(3), names: vec![name("b")], key: b"b".to_vec() })
    );
    assert_eq!(snapshot.attr(b).expect("reads"), None);
    bed.effects(&Command::Sweep);
    let counts = bed.snapshot().counts().expect("reads");
    assert_eq!((counts.inodes, counts.file_bytes), (5, 10), "the root, a, b, c and f");
}

#[test]
fn a_mount_at_the_root_takes_in_what_is_there_and_goes_in_one_step() {
    let mut bed = Bed::new();
    bed.mount("/a/m");
    let a = bed.id("/a");
    assert_eq!(bed.mount("/").effects, [Effect::Mounts]);
    assert_eq!(bed.id("/a"), a);
    bed.unmount("/a/m");
    bed.upsert(ROOT, &[dir("d"), file("f", 1)]);
    bed.effects(&Command::MarkListed { dir: ROOT, at: Timestamp(60), skipped: 0 });
    let (d, f) = (bed.id("/d"), bed.id("/f"));
    bed.upsert(d, &[file("g", 1)]);
    let g = bed.id("/d/g");

    assert_eq!(bed.unmount("/").effects, [Effect::Mounts]);
    let snapshot = bed.snapshot();
    assert_eq!(bed.names(ROOT), [""; 0]);
    assert_eq!(snapshot.listed(ROOT).expect("reads"), None);
    for gone in [d, f, g] {
        assert_eq!(snapshot.attr(gone).expect("reads"), None);
    }
    bed.mount("/");
    bed.upsert(ROOT, &[file("f", 1)]);
    assert_eq!(bed.names(ROOT), ["f"]);
    let attr = bed.snapshot().lookup(ROOT, &name("f")).expect("reads").expect("is there");
    assert_eq!(attr.parent, ROOT);
    bed.effects(&Command::Sweep);
    assert_eq!(bed.snapshot().counts().expect("reads").inodes, 2);
    assert_eq!(bed.names(ROOT), ["f"]);
}
