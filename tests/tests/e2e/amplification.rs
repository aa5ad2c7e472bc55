//! What the store has to send for what is read (P7, P8).

use std::{fs::File, os::unix::fs::FileExt as _, sync::Barrier, time::Duration};

use anyhow::{Result, ensure};
use headpond_tests::{Behaviour, noise};

use crate::lake::Lake;

const MIB: usize = 1 << 20;

#[test]
fn a_small_read_of_a_cold_large_object_fetches_little() -> Result<()> {
    let body = noise(1, 256 * MIB);
    let lake = Lake::of([("big.bin", body.clone())])?;
    let pond = lake.pond().start()?;
    let file = File::open(pond.path("big.bin"))?;
    lake.proxy.reset();
    let mut buffer = vec![0; MIB];
    let offset = 128 * MIB + 4321;
    file.read_exact_at(&mut buffer, offset as u64)?;
    assert_eq!(buffer, body[offset..][..MIB]);
    // What a reader may set off in the background counts too: closing does not end it at once.
    drop(file);
    let sent = lake.proxy.sent();
    ensure!(
        sent <= (2 * MIB + 64 * 1024) as u64,
        "a read of 1 MiB made the store send {sent} bytes: {:?}",
        lake.object_gets()
    );
    Ok(())
}

#[test]
fn a_cold_sequential_read_fetches_each_byte_once_and_never_open_ended() -> Result<()> {
    let body = noise(2, 64 * MIB + 77);
    let lake = Lake::of([("big.bin", body.clone())])?;
    let pond = lake.pond().start()?;
    lake.proxy.reset();
    ensure!(std::fs::read(pond.path("big.bin"))? == body[..], "the bytes differ");
    let sent = lake.proxy.sent();
    let limit = body.len() as u64 * 11 / 10;
    ensure!(sent <= limit, "reading {} bytes made the store send {sent}: {:?}", body.len(), lake.object_gets());
    ensure!(!lake.object_gets().iter().any(|get| get.ends_with("open-ended")), "{:?}", lake.object_gets());
    Ok(())
}

#[test]
fn a_cold_sequential_read_asks_for_what_comes_next_before_it_is_wanted() -> Result<()> {
    let body = noise(5, 64 * MIB);
    let lake = Lake::of([("big.bin", body.clone())])?;
    let pond = lake.pond().start()?;
    let (first_byte, method, only) = (Duration::from_millis(500), "GET".to_owned(), "big.bin".to_owned());
    lake.proxy.behave(Behaviour { first_byte, method, only, ..Behaviour::default() });
    ensure!(std::fs::read(pond.path("big.bin"))? == body[..], "the bytes differ");
    let most = lake.proxy.most_waiting();
    // The kernel has up to eight requests of its own on their way.
    ensure!(most >= 12, "a store that takes {first_byte:?} to answer never had more than {most} requests at once");
    Ok(())
}

#[test]
fn sixteen_readers_of_a_cold_object_cost_one_read() -> Result<()> {
    let body = noise(3, 32 * MIB);
    let lake = Lake::of([("big.bin", body.clone())])?;
    let pond = lake.pond().start()?;
    lake.proxy.reset();
    let path = pond.path("big.bin");
    let barrier = Barrier::new(16);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    std::fs::read(&path).is_ok_and(|read| read == body[..])
                })
            })
            .collect();
        readers.into_iter().all(|reader| reader.join().unwrap_or(false))
    })
    .then_some(())
    .ok_or_else(|| anyhow::anyhow!("a reader saw other bytes"))?;
    let sent = lake.proxy.sent();
    ensure!(sent <= body.len() as u64 * 11 / 10, "16 readers made the store send {sent} bytes");
    Ok(())
}

#[test]
fn a_warm_read_asks_the_store_for_no_bytes() -> Result<()> {
    let body = noise(4, 20 * MIB);
    let lake = Lake::of([("d/big.bin", body.clone()), ("d/small.bin", body.slice(..1000))])?;
    let mut pond = lake.pond().start()?;
    for name in ["d/big.bin", "d/small.bin"] {
        std::fs::read(pond.path(name))?;
    }
    // Warm across a restart as well.
    for restart in [false, true] {
        if restart {
            pond.stop()?;
            pond.launch()?;
        }
        lake.proxy.reset();
        ensure!(std::fs::read(pond.path("d/big.bin"))? == body[..], "the bytes differ");
        ensure!(std::fs::read(pond.path("d/small.bin"))? == body[..1000], "the bytes differ");
        ensure!(lake.object_gets().is_empty(), "after restart {restart}: {:?}", lake.object_gets());
    }
    Ok(())
}
