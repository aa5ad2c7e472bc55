//! What `headpond fs free` leaves on the disk and gives to readers.

use std::{fs::File, os::unix::fs::FileExt as _, time::Instant};

use anyhow::{Result, ensure};
use headpond_tests::{can_passthrough, eventually, noise, run_as};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

#[test]
fn freed_contents_leave_the_disk_at_once_save_what_is_open() -> Result<()> {
    let (small, large, held) = (noise(1, 300_000), noise(2, 5 * MIB), noise(3, 3 * MIB));
    let lake = Lake::of([("d/small", small.clone()), ("d/large", large.clone()), ("d/held", held.clone())])?;
    let pond = lake.pond().start()?;
    let used = || pond.metric("headpond_worker_cache_used_bytes");
    for _ in 0..2 {
        for (name, body) in [("d/small", &small), ("d/large", &large), ("d/held", &held)] {
            ensure!(std::fs::read(pond.path(name))? == body[..], "{name} differs");
        }
    }
    let open = File::open(pond.path("d/held"))?;
    lake.proxy.reset();

    let how =
        if can_passthrough() { "root: all is fetched again" } else { "an ordinary user: the kernel may have kept it" };
    run_as("what was freed", how);
    let freed = Instant::now();
    pond.run_ok(&["fs", "free", "--recursive", "/d"])?;
    eventually("only what is open is left", || Ok(used()? <= held.len() as f64))?;
    ensure!(freed.elapsed().as_secs() < 10, "the room came back after {:?}", freed.elapsed());
    let mut read = vec![0; held.len()];
    open.read_exact_at(&mut read, 0)?;
    ensure!(read == held[..], "the open handle reads other bytes");

    for (name, body) in [("d/small", &small), ("d/large", &large)] {
        ensure!(std::fs::read(pond.path(name))? == body[..], "{name} differs");
        // Where the daemon answers reads, the kernel may still have the pages: a content's bytes never change.
        let gets = lake.object_gets();
        let fetched = gets.iter().any(|get| get.contains(name));
        ensure!(fetched || !can_passthrough(), "{name} was not fetched again: {gets:?}");
    }
    drop(open);
    pond.run_ok(&["fs", "free", "--recursive", "/d"])?;
    eventually("nothing is left", || Ok(used()? == 0.0))?;
    ensure!(std::fs::read(pond.path("d/held"))? == held[..], "held differs");
    Ok(())
}
