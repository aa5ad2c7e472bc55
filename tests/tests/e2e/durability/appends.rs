//! Large files that are changed behind a long beginning, and stored later: the store copies that within itself.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::FileExt as _,
};

use anyhow::{Result, ensure};
use headpond_tests::{Behaviour, Cluster, append_and_close, close, eventually, noise};

use super::{cluster, must_read, sync};
use crate::lake::Lake;

const MIB: usize = 1 << 20;

/// Forgets what passed, makes a change, and fails unless the object is as expected then and so many MiB were sent for it.
fn must_cost(
    lake: &Lake,
    cluster: &Cluster,
    (key, expected): (&str, &[u8]),
    mib: std::ops::Range<usize>,
    change: impl FnOnce() -> Result<()>,
) -> Result<()> {
    lake.proxy.reset();
    change()?;
    eventually("the object arrives", || Ok(lake.get(key).is_ok_and(|body| body == expected)))?;
    let (taken, copies) = (lake.proxy.taken(), lake.copies().len());
    let bounds = (mib.start * MIB) as u64..(mib.end * MIB) as u64;
    ensure!(bounds.contains(&taken), "{taken} bytes were sent for {key}, and {copies} parts copied");
    must_read(&cluster.path(0, key), expected)
}

#[test]
fn of_a_large_file_only_what_was_changed_is_sent() -> Result<()> {
    let mut expected = noise(1, 70 * MIB + 5).to_vec();
    let lake = Lake::of([("f", expected.clone())])?;
    let mut cluster = cluster(&lake, "async").start()?;
    for mount in [0, cluster.mount(9)?] {
        let path = cluster.path(mount, "f");
        // As it was found in the store, and as it was put from here.
        for _ in 0..2 {
            expected.extend_from_slice(b"appended");
            must_cost(&lake, &cluster, ("f", &expected), 0..2, || Ok(append_and_close(&path, b"appended")?))?;
        }
        // In the middle, and with many persists of one open file.
        let file = OpenOptions::new().write(true).open(&path)?;
        let other = format!("other than at {mount}");
        expected[40 * MIB..][..other.len()].copy_from_slice(other.as_bytes());
        must_cost(&lake, &cluster, ("f", &expected), 30..33, || {
            file.write_all_at(other.as_bytes(), 40 * MIB as u64)?;
            Ok(file.sync_all()?)
        })?;
        for round in 0..2 {
            let bytes = noise(round + 10, 300_000);
            let end = expected.len() as u64;
            expected.extend_from_slice(&bytes);
            must_cost(&lake, &cluster, ("f", &expected), 0..5, || {
                for (at, piece) in (end..).step_by(10_000).zip(bytes.chunks(10_000)) {
                    file.write_all_at(piece, at)?;
                    file.sync_all()?;
                }
                Ok(())
            })?;
        }
        close(file)?;

        // Cut off, to a length that is none of whole pages.
        expected.truncate(71 * MIB - 3);
        must_cost(&lake, &cluster, ("f", &expected), 0..1, || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(expected.len() as u64)?;
            Ok(close(file)?)
        })?;
        // What is cached has the right checksums, and so has the object.
        sync(&cluster)?;
        cluster.run_ok(&["fs", "free", "/f"])?;
        must_read(&path, &expected)?;
    }
    lake.must_have_no_uploads()
}

#[test]
fn of_what_is_not_sure_all_is_sent() -> Result<()> {
    let mut expected = noise(1, 40 * MIB).to_vec();
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "async").workers(1).start()?;
    let path = cluster.path(0, "f");
    must_cost(&lake, &cluster, ("f", &expected), 40..42, || {
        let mut file = File::create_new(&path)?;
        file.write_all(&expected)?;
        Ok(close(file)?)
    })?;
    expected.extend_from_slice(b"appended");
    must_cost(&lake, &cluster, ("f", &expected), 0..2, || Ok(append_and_close(&path, b"appended")?))?;
    // A worker that was killed knows nothing of what it has put.
    sync(&cluster)?;
    cluster.workers[0].kill()?;
    cluster.workers[0].launch()?;
    expected.extend_from_slice(b"appended");
    must_cost(&lake, &cluster, ("f", &expected), 40..42, || Ok(append_and_close(&path, b"appended")?))?;
    // What somebody else puts there while it is on its way stays.
    lake.proxy.behave(Behaviour { answer: Some(503), method: "PUT".to_owned(), ..Behaviour::default() });
    append_and_close(&path, b"appended")?;
    let another = noise(2, 50 * MIB);
    lake.put("f", another.clone())?;
    lake.proxy.behave(Behaviour::default());
    eventually("the conflict is told", || Ok(cluster.run_ok(&["admin", "problems"])?.contains("/f")))?;
    ensure!(lake.get("f")? == another, "another's object was overwritten");
    // Until somebody decides: and then none of it is taken for ours.
    cluster.run_ok(&["admin", "problems", "overwrite", "/f"])?;
    expected.extend_from_slice(b"appended");
    eventually("ours is put", || Ok(lake.get("f")? == expected))?;
    must_read(&path, &expected)?;
    lake.must_have_no_uploads()
}

#[test]
fn a_store_that_copies_nothing_is_sent_all() -> Result<()> {
    let mut expected = noise(1, 40 * MIB).to_vec();
    let lake = Lake::of([("f", expected.clone())])?;
    let cluster = cluster(&lake, "async").start()?;
    for status in [501, 403] {
        lake.proxy.behave(Behaviour { answer: Some(status), copies: true, ..Behaviour::default() });
        expected.extend_from_slice(b"appended");
        must_cost(&lake, &cluster, ("f", &expected), 40..42, || {
            Ok(append_and_close(&cluster.path(0, "f"), b"appended")?)
        })?;
    }
    lake.must_have_no_uploads()
}
