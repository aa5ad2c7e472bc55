//! Master, workers and mounts as processes of their own.

use anyhow::{Result, ensure};
use headpond_tests::noise;

use crate::lake::Lake;

const MIB: usize = 1 << 20;

#[test]
fn three_workers_fetch_each_page_once_and_pass_it_on() -> Result<()> {
    let mut objects: Vec<_> = (0..40u64).map(|n| (format!("d/{n:02}"), noise(n, 200_000))).collect();
    objects.push(("big".to_owned(), noise(99, 70 * MIB + 5)));
    let bytes: usize = objects.iter().map(|(_, body)| body.len()).sum();
    let lake = Lake::of(objects.clone())?;
    let mut cluster = lake.cluster().workers(3).start()?;
    let elsewhere = cluster.mount(1)?;
    let without_worker = cluster.mount(9)?;
    lake.proxy.reset();
    // Two mounts read the large object at the same time, the others come after.
    std::thread::scope(|scope| {
        let readers = [0, elsewhere].map(|number| {
            let path = cluster.path(number, "big");
            scope.spawn(move || std::fs::read(path))
        });
        for reader in readers {
            let read = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
            ensure!(read == objects[40].1[..], "big differs");
        }
        Ok(())
    })?;
    for number in [0, elsewhere, without_worker] {
        for (key, body) in &objects {
            ensure!(std::fs::read(cluster.path(number, key))? == body[..], "{key} differs through mount {number}");
        }
    }
    let sent = lake.proxy.sent();
    ensure!(sent <= bytes as u64 * 11 / 10, "{bytes} bytes made the store send {sent}: {:?}", lake.object_gets());
    let filled =
        |number: usize, source: &str| cluster.workers[number].metric("headpond_worker_filled_bytes_total", source);
    let mut from_store = 0.0;
    for number in 0..3 {
        ensure!(filled(number, "under_store")? > 0.0, "worker {number} owns nothing");
        from_store += filled(number, "under_store")?;
    }
    ensure!((from_store - bytes as f64).abs() < 0.5, "{from_store} bytes came from the store instead of {bytes}");
    for number in 0..2 {
        ensure!(filled(number, "peer")? > 0.0, "worker {number} got nothing from the owners");
    }
    Ok(())
}
