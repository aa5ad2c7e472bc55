//! Cold reads, against a good parallel client of the same store, and what the store sends for them.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use headpond_tests::{Behaviour, S3, noise};

use crate::{
    report::{Report, figure, rested},
    world::{MIB, Scale, World, float, have_memory, read_through},
};

pub(crate) fn run(scale: Scale, report: &mut Report) -> Result<()> {
    let world = World::new()?;
    let length = 1024 * MIB / scale.divisor;
    let body = noise(1, usize::try_from(length)?);
    // An object is cold once: every read of ours has one of its own.
    let objects = u64::try_from(2 * (scale.rounds + 1))?;
    for n in 0..objects {
        world.put([(format!("cold-{n}.bin"), body.clone())])?;
    }
    world.put([("big.bin".to_owned(), body)])?;
    // The store has all of them in memory, as it has the one that the baseline reads again and again.
    for n in 0..objects {
        world.direct_read(&world.s3, &format!("cold-{n}.bin"), length, 16)?;
    }
    let mut unread = 0..objects;
    let through_proxy = S3::new(&world.proxy.endpoint(), "lake");

    for limited in [true, false] {
        let (title, reach) = if limited {
            ("cold sequential read, store limited to 20 ms first byte and 60 MB/s a connection", "≥ 0.95 ×")
        } else {
            ("cold sequential read, store on loopback without limits", "≥ 0.6 ×")
        };
        world.proxy.behave(if limited {
            Behaviour {
                first_byte: Duration::from_millis(20),
                bytes_per_second: Some(60_000_000),
                ..Behaviour::default()
            }
        } else {
            Behaviour::default()
        });
        let (pond, s3) = if limited {
            (world.pond_through_proxy().start()?, &through_proxy)
        } else {
            (world.pond().start()?, &world.s3)
        };
        let ours = report.compare_after(
            scale,
            title,
            "MB/s",
            reach,
            || have_memory(4 * length),
            || Ok(float(world.direct_read(s3, "big.bin", length, 16)?) / 1e6),
            || {
                let n = unread.next().context("an object a round")?;
                Ok(float(read_through(&pond.path(&format!("cold-{n}.bin")))?) / 1e6)
            },
        )?;
        let copies = (0..=scale.rounds)
            .map(|_| {
                have_memory(4 * length)?;
                rested(|| Ok(float(world.direct_copy(s3, "big.bin", length, 16)?) / 1e6))
            })
            .collect::<Result<Vec<_>>>()?;
        let copy = middle_of(copies);
        report.fact(
            "the same, against that client writing what it reads into a file",
            &format!("{} MB/s", figure(copy)),
            &format!("{} MB/s", figure(ours)),
            &format!("{:.2} ×", ours / copy),
            "",
        );
    }

    world.proxy.behave(Behaviour::default());
    let pond = world.pond_through_proxy().start()?;
    let path = pond.path("big.bin");
    // Connections that were not used for a while may be closed by now.
    let through_proxy = S3::new(&world.proxy.endpoint(), "lake");
    let (mut direct, mut ours, mut sent) = (Vec::new(), Vec::new(), 0);
    for round in 0..=scale.rounds as u64 {
        // Far enough apart that no page is touched twice.
        let middle = length / 4 + round * 8 * MIB + 12_345;
        let started = Instant::now();
        world.runtime.block_on(through_proxy.get_range("big.bin", middle, middle + MIB))?;
        direct.push(started.elapsed().as_secs_f64() * 1e3);
        world.proxy.reset();
        let started = Instant::now();
        let file = File::open(&path)?;
        let mut buffer = vec![0; 1 << 20];
        file.read_exact_at(&mut buffer, middle)?;
        ours.push(started.elapsed().as_secs_f64() * 1e3);
        drop(file);
        sent = sent.max(world.proxy.sent());
    }
    let (direct, ours) = (middle_of(direct), middle_of(ours));
    report.fact(
        "cold read of 1 MiB in the middle: time",
        &format!("{direct:.1} ms"),
        &format!("{ours:.1} ms"),
        &format!("{:.2} ×", ours / direct),
        "≤ 2 ×",
    );
    let mib = float(sent) / float(MIB);
    report.fact("the same: sent by the store", "1 MiB", &format!("{mib:.2} MiB"), &format!("{mib:.2} ×"), "≤ 2 MiB");

    drop(pond);
    let pond = world.pond_through_proxy().start()?;
    let path = pond.path("big.bin");
    world.proxy.reset();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..16).map(|_| scope.spawn(|| read_through(&path))).collect();
        readers.into_iter().try_for_each(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?.map(drop))
    })?;
    let ratio = float(world.proxy.sent()) / float(length);
    report.fact(
        "sent by the store for 16 concurrent cold readers",
        &format!("{} B", figure(float(length))),
        &format!("{} B", figure(float(world.proxy.sent()))),
        &format!("{ratio:.2} ×"),
        "≤ 1.1 ×",
    );
    Ok(())
}

fn middle_of(mut figures: Vec<f64>) -> f64 {
    figures.remove(0);
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
