//! Hard links: one file under several names, an object under each.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use headpond_tests::{Behaviour, Cluster, close, eventually, noise, write_and_close};

use crate::{check::must_be_clean, lake::Lake};

/// More than one PUT and one part take.
const LARGE: usize = 70 << 20;

fn sync(cluster: &Cluster) -> Result<()> {
    cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"]).map(drop)
}

/// Waits for the bucket, and fails unless it has these objects and no others; markers of directories may be there.
fn must_hold(lake: &Lake, cluster: &Cluster, expected: &[(&str, &[u8])]) -> Result<()> {
    sync(cluster)?;
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(key, body)| ((*key).to_owned(), Bytes::copy_from_slice(body))).collect();
    let markers = lake.list()?.into_iter().map(|(key, ..)| key).filter(|key| key.ends_with('/')).collect();
    lake.must_have(&expected, &markers)?;
    lake.must_have_no_parts()
}

/// Fails unless these names, on each mount, are one file with as many names and these bytes.
fn must_be_one(cluster: &Cluster, names: &[&str], body: &[u8]) -> Result<()> {
    for mount in 0..cluster.mounts.len() {
        let inode = fs::metadata(cluster.path(mount, names[0]))?.ino();
        for name in names {
            let path = cluster.path(mount, name);
            let found = fs::metadata(&path).with_context(|| path.display().to_string())?;
            let (links, size) = (found.nlink(), found.len());
            ensure!(found.ino() == inode, "{name} on mount {mount} is another inode than {}", names[0]);
            ensure!(links == names.len() as u64, "{name} on mount {mount} has {links} names instead of {names:?}");
            ensure!(size == body.len() as u64, "{name} on mount {mount} has {size} bytes instead of {}", body.len());
            ensure!(fs::read(&path)? == body, "{name} on mount {mount} has other bytes");
        }
    }
    Ok(())
}

fn two_mounts(lake: &Lake, durability: &str) -> Result<Cluster> {
    let mut cluster = lake.cluster().store(&["--durability", durability]).start()?;
    cluster.mount(9)?;
    Ok(cluster)
}

fn names_come_and_go(durability: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let cluster = two_mounts(&lake, durability)?;
    let a = |name: &str| cluster.path(0, name);
    let b = |name: &str| cluster.path(1, name);
    fs::create_dir(a("d"))?;
    write_and_close(&a("f"), b"one")?;
    fs::hard_link(a("f"), a("d/g"))?;
    must_be_one(&cluster, &["f", "d/g"], b"one")?;
    must_hold(&lake, &cluster, &[("f", b"one"), ("d/g", b"one")])?;

    write_and_close(&b("d/g"), b"the second").context("writing through the other name")?;
    must_be_one(&cluster, &["f", "d/g"], b"the second")?;
    must_hold(&lake, &cluster, &[("f", b"the second"), ("d/g", b"the second")])?;
    OpenOptions::new().append(true).open(b("f"))?.write_all(b", and more")?;
    must_be_one(&cluster, &["d/g", "f"], b"the second, and more")?;
    must_hold(&lake, &cluster, &[("f", b"the second, and more"), ("d/g", b"the second, and more")])?;

    // The name that it had first goes, with the object there, and later the other.
    fs::hard_link(b("d/g"), b("h"))?;
    fs::remove_file(b("f"))?;
    must_be_one(&cluster, &["h", "d/g"], b"the second, and more")?;
    must_hold(&lake, &cluster, &[("h", b"the second, and more"), ("d/g", b"the second, and more")])?;
    write_and_close(&a("f"), b"another")?;
    must_be_one(&cluster, &["f"], b"another")?;
    fs::remove_file(a("d/g"))?;
    must_be_one(&cluster, &["h"], b"the second, and more")?;
    must_hold(&lake, &cluster, &[("h", b"the second, and more"), ("f", b"another")])?;

    // At once, before anything was copied.
    fs::hard_link(a("h"), a("i"))?;
    fs::remove_file(a("h"))?;
    must_be_one(&cluster, &["i"], b"the second, and more")?;
    must_hold(&lake, &cluster, &[("i", b"the second, and more"), ("f", b"another")])?;
    fs::remove_file(b("i"))?;
    must_hold(&lake, &cluster, &[("f", b"another")])
}

#[test]
fn names_come_and_go_and_the_bucket_follows() -> Result<()> {
    names_come_and_go("through")
}

#[test]
fn names_come_and_go_where_files_are_persisted_later() -> Result<()> {
    names_come_and_go("async")
}

fn names_are_renamed(durability: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = two_mounts(&lake, durability)?;
    let path = |cluster: &Cluster, name: &str| cluster.path(0, name);
    fs::create_dir(path(&cluster, "d"))?;
    fs::create_dir(path(&cluster, "d/sub"))?;
    write_and_close(&path(&cluster, "d/sub/f"), b"body")?;
    fs::hard_link(path(&cluster, "d/sub/f"), path(&cluster, "g"))?;
    must_hold(&lake, &cluster, &[("d/sub/f", b"body"), ("g", b"body")])?;
    // The directory around its own name, then both names, then over others.
    fs::rename(path(&cluster, "d"), path(&cluster, "e"))?;
    must_be_one(&cluster, &["g", "e/sub/f"], b"body")?;
    must_hold(&lake, &cluster, &[("e/sub/f", b"body"), ("g", b"body")])?;
    fs::rename(path(&cluster, "g"), path(&cluster, "e/g"))?;
    fs::rename(path(&cluster, "e/sub/f"), path(&cluster, "f"))?;
    must_be_one(&cluster, &["e/g", "f"], b"body")?;
    must_hold(&lake, &cluster, &[("e/g", b"body"), ("f", b"body")])?;
    fs::rename(path(&cluster, "e"), path(&cluster, "d"))?;
    cluster.master.kill()?;
    cluster.master.launch()?;
    must_hold(&lake, &cluster, &[("d/g", b"body"), ("f", b"body")])?;
    must_be_one(&cluster, &["d/g", "f"], b"body")?;
    // Two names of one file: nothing happens.
    fs::rename(path(&cluster, "f"), path(&cluster, "d/g"))?;
    must_be_one(&cluster, &["d/g", "f"], b"body")?;
    for over in ["f", "d/g"] {
        write_and_close(&path(&cluster, "new"), over.as_bytes())?;
        fs::rename(path(&cluster, "new"), path(&cluster, over))?;
        must_be_one(&cluster, &[over], over.as_bytes())?;
        if over == "f" {
            must_be_one(&cluster, &["d/g"], b"body")?;
            must_hold(&lake, &cluster, &[("d/g", b"body"), ("f", b"f")])?;
        }
    }
    must_hold(&lake, &cluster, &[("d/g", b"d/g"), ("f", b"f")])
}

#[test]
fn names_are_renamed_and_replaced_on_their_own() -> Result<()> {
    names_are_renamed("through")
}

#[test]
fn names_are_renamed_and_replaced_where_files_are_persisted_later() -> Result<()> {
    names_are_renamed("async")
}

#[test]
fn a_writer_goes_on_whichever_name_goes() -> Result<()> {
    for durability in ["through", "async"] {
        let lake = Lake::empty()?;
        let cluster = two_mounts(&lake, durability)?;
        for (gone, left) in [("f", "g"), ("g", "f")] {
            let mut file = File::create(cluster.path(0, "f"))?;
            file.write_all(b"before, ")?;
            fs::hard_link(cluster.path(0, "f"), cluster.path(0, "g"))?;
            ensure!(file.metadata()?.nlink() == 2, "{} names", file.metadata()?.nlink());
            fs::remove_file(cluster.path(0, gone))?;
            ensure!(file.metadata()?.nlink() == 1, "{} names without {gone}", file.metadata()?.nlink());
            file.write_all(b"and after")?;
            close(file)?;
            must_be_one(&cluster, &[left], b"before, and after")?;
            must_hold(&lake, &cluster, &[(left, b"before, and after")])?;
            let mut reader = File::open(cluster.path(1, left))?;
            fs::remove_file(cluster.path(1, left))?;
            let mut read = Vec::new();
            reader.read_to_end(&mut read)?;
            ensure!(read == b"before, and after", "{read:?}");
        }
    }
    Ok(())
}

#[test]
fn what_is_linked_out_of_a_temporary_name_costs_one_put() -> Result<()> {
    for durability in ["deferred", "async"] {
        let lake = Lake::empty()?;
        let cluster = two_mounts(&lake, durability)?;
        fs::create_dir_all(cluster.path(0, "out/_temporary"))?;
        sync(&cluster)?;
        lake.proxy.reset();
        let mut expected = BTreeMap::new();
        for n in 0..20_u64 {
            let (from, to) = (cluster.path(0, &format!("out/_temporary/f{n}")), cluster.path(0, &format!("out/f{n}")));
            write_and_close(&from, &noise(n, 3_000))?;
            fs::hard_link(&from, &to)?;
            fs::remove_file(&from)?;
            expected.insert(format!("out/f{n}"), noise(n, 3_000));
        }
        let expected: Vec<_> = expected.iter().map(|(key, body)| (&key[..], &body[..])).collect();
        must_hold(&lake, &cluster, &expected)?;
        let (puts, copies) = (lake.puts(), lake.copies());
        println!("{durability}: {} PUTs and {} copies", puts.len(), copies.len());
        if durability == "deferred" {
            ensure!(copies.is_empty(), "{copies:#?}");
            ensure!(puts.len() == 20, "{puts:#?}");
        }
    }
    Ok(())
}

#[test]
fn what_is_changed_outside_is_no_link_any_more() -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = lake.cluster().store(&["--sync-interval", "1s"]).start()?;
    cluster.mount(9)?;
    for name in ["f", "g", "h"] {
        if name == "f" {
            write_and_close(&cluster.path(0, "f"), b"body")?;
        } else {
            fs::hard_link(cluster.path(0, "f"), cluster.path(0, name))?;
        }
    }
    sync(&cluster)?;
    lake.put("g", "outside")?;
    let path = cluster.path(0, "g");
    eventually("the change is seen", || Ok(fs::read(&path)? == b"outside"))?;
    must_be_one(&cluster, &["f", "h"], b"body")?;
    lake.delete("f")?;
    let path = cluster.path(0, "f");
    eventually("the deletion is seen", || Ok(!path.exists()))?;
    must_be_one(&cluster, &["h"], b"body")?;
    write_and_close(&cluster.path(1, "h"), b"once more")?;
    must_hold(&lake, &cluster, &[("g", b"outside"), ("h", b"once more")])
}

#[test]
fn a_master_that_is_killed_while_it_copies_copies_once_more() -> Result<()> {
    for (point, body) in [
        ("persist::begun", noise(1, 1_000)),
        ("persist::copied", noise(2, 1_000)),
        ("persist::stored", noise(3, 1_000)),
        ("relocate::uploading", noise(4, LARGE)),
        ("persist::copied", noise(5, LARGE)),
    ] {
        let lake = Lake::empty()?;
        let mut cluster = two_mounts(&lake, "through")?;
        write_and_close(&cluster.path(0, "f"), &body)?;
        cluster.master.kill()?;
        cluster.master.env("HEADPOND_KILL_AT", format!("{point}=1"));
        cluster.master.launch()?;
        fs::hard_link(cluster.path(0, "f"), cluster.path(0, "g")).with_context(|| format!("linking, {point}"))?;
        let reached = eventually("the point is reached", || {
            Ok(cluster.master.process().is_ok_and(|process| process.check_running().is_err()))
        });
        reached.with_context(|| format!("{point}: a binary without the feature failpoints?"))?;
        cluster.master.env("HEADPOND_KILL_AT", "");
        cluster.master.launch()?;
        must_hold(&lake, &cluster, &[("f", &body), ("g", &body)]).with_context(|| point.to_owned())?;
        must_be_one(&cluster, &["f", "g"], &body)?;
        fs::remove_file(cluster.path(0, "f"))?;
        must_hold(&lake, &cluster, &[("g", &body)]).with_context(|| format!("{point}, then without the first name"))?;
        must_be_clean(&cluster, Duration::from_secs(30)).with_context(|| point.to_owned())?;
    }
    Ok(())
}

#[test]
fn names_are_made_without_a_mount() -> Result<()> {
    let lake = Lake::of([("f", "body")])?;
    let cluster = lake.cluster().start()?;
    cluster.run_ok(&["fs", "mkdir", "/d"])?;
    cluster.run_ok(&["fs", "ln", "/f", "/d"])?;
    cluster.run_ok(&["fs", "ln", "/d/f", "/g"])?;
    must_be_one(&cluster, &["f", "d/f", "g"], b"body")?;
    let taken = cluster.run(&["fs", "ln", "/f", "/g"])?;
    ensure!(!taken.status.success(), "the name was taken");
    must_hold(&lake, &cluster, &[("f", b"body"), ("d/f", b"body"), ("g", b"body")])
}

#[test]
fn a_first_name_goes_while_the_object_of_another_is_copied() -> Result<()> {
    let body = noise(1, 3_000);
    let (deadline, late, lost) = (Duration::from_secs(10), Duration::from_secs(6), Duration::from_secs(14));
    for (durability, is_replaced, late, killed_at) in [
        ("through", false, late, None),
        ("async", true, late, None),
        ("async", true, lost, None),
        ("async", false, late, Some("persist::handed-over")),
        ("through", true, late, Some("")),
    ] {
        let lake = Lake::empty()?;
        let builder = lake.cluster().store(&["--durability", durability]);
        let builder = builder.env("HEADPOND_MASTER__STORE_DEADLINE", &format!("{}s", deadline.as_secs()));
        let mut cluster = builder.start()?;
        cluster.mount(9)?;
        write_and_close(&cluster.path(0, "f"), &body)?;
        write_and_close(&cluster.path(0, "other"), b"other")?;
        sync(&cluster)?;
        if let Some(point) = killed_at.filter(|point| !point.is_empty()) {
            cluster.master.kill()?;
            cluster.master.env("HEADPOND_KILL_AT", format!("{point}=1"));
            cluster.master.launch()?;
            cluster.wait_session(0, "")?;
        }
        lake.proxy.reset();
        lake.proxy.behave(Behaviour { late, copies: true, only: "/g".to_owned(), ..Behaviour::default() });
        fs::hard_link(cluster.path(0, "f"), cluster.path(0, "g"))?;
        eventually("the copy is asked for", || Ok(!lake.copies().is_empty()))?;
        if is_replaced {
            fs::rename(cluster.path(0, "other"), cluster.path(0, "f")).context("renaming over the first name")?;
        } else {
            fs::remove_file(cluster.path(0, "f")).context("removing the first name")?;
        }
        ensure!(lake.proxy.late() == 0, "the copy was waited for");
        must_be_one(&cluster, &["g"], &body)?;
        if let Some(point) = killed_at {
            if point.is_empty() {
                cluster.master.kill()?;
            } else {
                let reached = eventually("the point is reached", || {
                    Ok(cluster.master.process().is_ok_and(|process| process.check_running().is_err()))
                });
                reached.with_context(|| format!("{point}: a binary without the feature failpoints?"))?;
            }
            cluster.master.env("HEADPOND_KILL_AT", "");
            cluster.master.launch()?;
        }
        let others: &[(&str, &[u8])] = if is_replaced { &[("f", b"other")] } else { &[("other", b"other")] };
        must_hold(&lake, &cluster, &[&[("g", &body[..])], others].concat())
            .with_context(|| format!("{durability}, killed at {killed_at:?}"))?;
        must_be_one(&cluster, &["g"], &body)?;
        if killed_at.is_none() && late != lost {
            let puts = lake.puts().into_iter().filter(|put| put.contains("/g")).collect::<Vec<_>>();
            ensure!(puts.len() == 1, "it is made more than once: {puts:?}");
        }
    }
    Ok(())
}
