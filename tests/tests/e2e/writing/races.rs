//! Two mounts that do the same thing at the same time: one of them wins.

use std::{fs::File, io::Write as _, sync::Barrier};

use anyhow::{Result, ensure};
use headpond_tests::{Cluster, close, write_and_close};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::must_soon_read;
use crate::lake::Lake;

const ROUNDS: usize = 60;

/// Lets both mounts do it at once, in many rounds: exactly one succeeds in each, the other hears that the name exists. Answers who.
fn one_wins(
    cluster: &Cluster,
    mounts: [usize; 2],
    attempt: impl Fn(usize, usize) -> std::io::Result<()> + Sync,
) -> Result<Vec<usize>> {
    let barrier = Barrier::new(2);
    let results = std::thread::scope(|scope| {
        let threads = mounts.map(|mount| {
            let (attempt, barrier) = (&attempt, &barrier);
            scope.spawn(move || {
                let tries = (0..ROUNDS).map(|round| {
                    barrier.wait();
                    attempt(mount, round)
                });
                tries.collect::<Vec<_>>()
            })
        });
        threads.map(|thread| thread.join().expect("attempts do not panic"))
    });
    let mut winners = Vec::new();
    for (round, (one, other)) in results[0].iter().zip(&results[1]).enumerate() {
        let (winner, lost) = match (one, other) {
            (Ok(()), Err(lost)) => (mounts[0], lost),
            (Err(lost), Ok(())) => (mounts[1], lost),
            both => anyhow::bail!("round {round}: {both:?}; the master printed {}", cluster.master.output()),
        };
        ensure!(lost.raw_os_error() == Some(Errno::EXIST.raw_os_error()), "round {round}: the loser hears {lost}");
        winners.push(winner);
    }
    let first = winners.iter().filter(|winner| **winner == mounts[0]).count();
    println!("{first} of {ROUNDS} rounds were won by the first mount");
    Ok(winners)
}

fn cluster(lake: &Lake) -> Result<(Cluster, [usize; 2])> {
    let mut cluster = lake.cluster().workers(2).start()?;
    let other = cluster.mount(1)?;
    Ok((cluster, [0, other]))
}

#[test]
fn a_file_that_must_be_new_is_made_by_one_of_two_mounts() -> Result<()> {
    let lake = Lake::empty()?;
    let (cluster, mounts) = cluster(&lake)?;
    let winners = one_wins(&cluster, mounts, |mount, round| {
        let mut file = File::create_new(cluster.path(mount, &format!("lock-{round}")))?;
        file.write_all(mount.to_string().as_bytes())?;
        close(file)
    })?;
    for (round, winner) in winners.iter().enumerate() {
        for mount in mounts {
            must_soon_read(&cluster.path(mount, &format!("lock-{round}")), winner.to_string().as_bytes())?;
        }
        ensure!(lake.get(&format!("lock-{round}"))? == winner.to_string(), "the object is another's");
    }
    ensure!(lake.list()?.len() == ROUNDS, "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_directory_is_made_by_one_of_two_mounts() -> Result<()> {
    let lake = Lake::empty()?;
    let (cluster, mounts) = cluster(&lake)?;
    one_wins(&cluster, mounts, |mount, round| std::fs::create_dir(cluster.path(mount, &format!("d-{round}"))))?;
    ensure!(lake.list()?.len() == ROUNDS, "{:?}", lake.list()?);
    Ok(())
}

#[test]
fn a_rename_that_must_not_replace_is_won_by_one_of_two_mounts() -> Result<()> {
    let lake = Lake::empty()?;
    let (cluster, mounts) = cluster(&lake)?;
    for (mount, round) in mounts.into_iter().flat_map(|mount| (0..ROUNDS).map(move |round| (mount, round))) {
        write_and_close(&cluster.path(mount, &format!("from-{mount}-{round}")), mount.to_string().as_bytes())?;
    }
    let winners = one_wins(&cluster, mounts, |mount, round| {
        let from = cluster.path(mount, &format!("from-{mount}-{round}"));
        let to = cluster.path(mount, &format!("to-{round}"));
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    })?;
    let mut expected = std::collections::BTreeMap::new();
    for (round, winner) in winners.iter().enumerate() {
        let loser = mounts[0] + mounts[1] - winner;
        expected.insert(format!("to-{round}"), winner.to_string().into());
        expected.insert(format!("from-{loser}-{round}"), loser.to_string().into());
    }
    lake.must_become(&expected)?;
    for (path, body) in &expected {
        must_soon_read(&cluster.path(mounts[1], path), body)?;
    }
    Ok(())
}

#[test]
fn who_wants_to_write_what_another_mount_writes_hears_that_it_is_busy() -> Result<()> {
    let lake = Lake::of([("f", "old")])?;
    // Mounts of tests wait for a master for a shorter time than it waits for what is in the way of a change.
    let (cluster, [one, other]) = cluster(&lake)?;
    must_soon_read(&cluster.path(other, "f"), b"old")?;
    let mut file = File::options().write(true).open(cluster.path(one, "f"))?;
    file.write_all(b"new")?;
    for _ in 0..2 {
        let Err(busy) = File::options().write(true).open(cluster.path(other, "f")) else {
            anyhow::bail!("two mounts write one file");
        };
        ensure!(busy.raw_os_error() == Some(Errno::BUSY.raw_os_error()), "the second hears {busy}");
    }
    close(file)?;
    must_soon_read(&cluster.path(other, "f"), b"new")?;
    Ok(close(File::options().write(true).open(cluster.path(other, "f"))?)?)
}
