//! The master killed while objects follow a rename, at moments that the store's proxy holds still.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, eventually, noise};

use super::keeps_answers;
use crate::lake::Lake;

#[test]
fn a_relocation_goes_on_after_a_kill_at_any_of_its_steps() -> Result<()> {
    let files: BTreeMap<_, _> = (0..40u64).map(|n| (format!("f{n:02}"), noise(n, 1_000))).collect();
    // What the store does with these is done, but nobody hears of it: copies, and deletions of sources. Then: nothing is done.
    let steps = [
        keeps_answers("PUT", "/lake/new/f2"),
        keeps_answers("POST", "/lake/new/f2"),
        keeps_answers("DELETE", "/lake/old/f3"),
        Behaviour { answer: Some(503), only: "/lake/new/f1".to_owned(), ..Behaviour::default() },
        Behaviour { hang: true, only: "/lake/old/f3".to_owned(), method: "DELETE".to_owned(), ..Behaviour::default() },
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let lake = Lake::of(files.iter().map(|(name, body)| (format!("old/{name}"), body.clone())))?;
        let mut cluster = lake.cluster().start()?;
        ensure!(std::fs::read_dir(cluster.path(0, "old"))?.count() == files.len(), "not all are listed");
        lake.proxy.reset();
        let concerned = |lake: &Lake| {
            let is_held = |request: &&headpond_tests::Request| {
                request.target.contains(&step.only) && (step.method.is_empty() || request.method == step.method)
            };
            lake.proxy.requests().iter().filter(is_held).count()
        };
        lake.proxy.behave(step.clone());
        std::fs::rename(cluster.path(0, "old"), cluster.path(0, "new")).context("renaming")?;
        // A step that this way of moving does not have is over when everything has moved.
        eventually("the relocation has come that far", || {
            Ok(concerned(&lake) > 0 || lake.list()?.iter().all(|object| object.0.starts_with("new/")))
        })?;
        println!("step {number}: held {} requests", concerned(&lake));
        cluster.master.kill()?;
        lake.proxy.behave(Behaviour::default());
        cluster.master.launch()?;
        let expected: BTreeMap<String, Bytes> =
            files.iter().map(|(name, body)| (format!("new/{name}"), body.clone())).collect();
        eventually("the mount is in session again", || Ok(cluster.path(0, "new/f00").exists()))?;
        ensure!(!cluster.path(0, "old").exists(), "step {number}: the old name is back");
        for (key, body) in &expected {
            // A busy machine may take longer than a read may wait; other bytes are never answered.
            eventually(&format!("step {number}: {key} can be read"), || match std::fs::read(cluster.path(0, key)) {
                Ok(read) => {
                    ensure!(read == body[..], "step {number}: {key} differs");
                    Ok(true)
                }
                Err(error) => {
                    ensure!(error.kind() != ErrorKind::NotFound, "step {number}: {key} is gone");
                    Ok(false)
                }
            })?;
        }
        lake.must_hold(&expected, &BTreeSet::new())?;
        lake.must_have_no_parts()?;
        ensure!(!cluster.path(0, "old").exists(), "step {number}: the old name is back at the end");
        // Its place can be taken, once the relocation has ended; a call that had no answer in time may have succeeded.
        eventually(&format!("step {number}: another is made"), || {
            let made = std::fs::create_dir(cluster.path(0, "old"));
            Ok(made.is_ok() || made.is_err_and(|error| error.kind() == ErrorKind::AlreadyExists))
        })?;
    }
    Ok(())
}
