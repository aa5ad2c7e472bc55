//! Other users than root: what they may, and what a file loses when they write it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{Cluster, Command, eventually, is_root, run_as};

use crate::lake::Lake;

/// Somebody who owns nothing.
const NOBODY: u32 = 65_534;

/// A group that files are given to, and another.
const GROUPS: [u32; 2] = [4_242, 4_243];

/// Runs a script in `folder` as somebody who is also in the group `also`; by an ordinary user, as himself. Answers what it says if it fails.
fn somebody(folder: &Path, also: u32, script: &str) -> Result<Result<(), String>> {
    let shell = ["sh", "-c", script];
    let mut command = Command::new(if is_root() { "setpriv" } else { "sh" });
    command.current_dir(folder).env("LC_ALL", "C");
    if is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--groups", &also.to_string()]).args(shell);
    } else {
        command.args(&shell[1..]);
    }
    let output = command.output().with_context(|| script.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(if output.status.success() { Ok(()) } else { Err(said) })
}

/// A cluster with two mounts that other users may use.
fn cluster(lake: &Lake, durability: &str) -> Result<Cluster> {
    let mut builder = lake.cluster().store(&["--durability", durability]);
    if is_root() {
        builder = builder.env("HEADPOND_MOUNT__ALLOW_OTHER", "true");
    }
    let mut cluster = builder.start()?;
    cluster.mount(9)?;
    Ok(cluster)
}

/// Kills everything but the store, and starts it again.
fn restart(cluster: &mut Cluster) -> Result<()> {
    let Cluster { master, workers, mounts, .. } = cluster;
    std::iter::once(&mut *master).chain(&mut *workers).chain(&mut *mounts).try_for_each(headpond_tests::Part::kill)?;
    std::iter::once(master).chain(workers).chain(mounts).try_for_each(headpond_tests::Part::launch)?;
    cluster.wait_workers(1)
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::metadata(path).with_context(|| path.display().to_string())?.mode() & 0o7777)
}

/// Ways to change the bytes of `$F`.
const WAYS: [(&str, &str); 9] = [
    ("append", "echo x >> $F"),
    ("overwrite", "printf x 1<> $F"),
    ("empty", ": > $F"),
    ("shorten", "truncate -s 1 $F"),
    ("shorten-by-path", "perl -e 'truncate($ARGV[0], 1) or die $!' $F"),
    ("lengthen", "truncate -s 9000 $F"),
    ("make-room", "fallocate -l 9000 $F"),
    ("punch", "fallocate --punch-hole -o 1 -l 2 $F"),
    ("copy-into", "cp /etc/passwd $F"),
];

/// Modes with bits that writing takes, all of which let others write. In the last the group may not execute the file: its set-group-ID bit stays, as the
/// kernel asks of file systems of its FUSE; its own have it taken by who is no member of the group, of which FUSE is not told.
const MODES: [u32; 4] = [0o6777, 0o4777, 0o2777, 0o6766];

/// The names of files, each with how it is changed and its mode before.
fn changes() -> impl Iterator<Item = (String, &'static str, u32)> {
    WAYS.into_iter().flat_map(|(name, script)| MODES.map(|mode| (format!("{name}-{mode:o}"), script, mode)))
}

/// The mode after a change, as of a plain file that was changed alike.
fn mode_after(plain: &Path, before: u32) -> Result<u32> {
    let stays = if before & 0o010 == 0 { before & 0o2000 } else { 0 };
    Ok(mode(plain)? | stays)
}

fn bits_are_taken(durability: &str) -> Result<()> {
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, durability)?;
    let local = cluster.folder().join("local");
    fs::create_dir(&local)?;
    for (number, (name, script, before)) in changes().enumerate() {
        for folder in [cluster.path(0, ""), local.clone()] {
            fs::write(folder.join(&name), "some bytes")?;
            fs::set_permissions(folder.join(&name), Permissions::from_mode(before))?;
        }
        // One mount changes it, the other has seen it before.
        let (changes, sees) = (number % 2, 1 - number % 2);
        ensure!(mode(&cluster.path(sees, &name))? == before, "{name} before");
        for folder in [cluster.path(changes, ""), local.clone()] {
            let changed = somebody(&folder, GROUPS[0], &format!("F={name}; {script}"))?;
            changed.map_err(|said| anyhow::anyhow!("{name} in {}: {said}", folder.display()))?;
        }
        let expected = mode_after(&local.join(&name), before)?;
        ensure!(expected & 0o6000 == before & 0o2000 & !(before << 7), "a plain file keeps its bits: {name}");
        for mount in [changes, sees] {
            let found = mode(&cluster.path(mount, &name))?;
            ensure!(found == expected, "{name}, mount {mount}: {found:o}, and {expected:o} of a plain file");
        }
    }
    if is_root() {
        // Root may write what it likes.
        let [changed, seen] = [1, 0].map(|mount| cluster.path(mount, "root"));
        fs::write(&seen, "some bytes")?;
        fs::set_permissions(&seen, Permissions::from_mode(0o6777))?;
        for (name, script) in WAYS {
            let output = Command::new("sh").args(["-c", script]).env("F", &changed).output()?;
            ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let modes = (mode(&changed)?, mode(&seen)?);
            ensure!(modes == (0o6777, 0o6777), "{name} by root: {:o} and {:o}", modes.0, modes.1);
        }
    }
    restart(&mut cluster)?;
    for (name, _, before) in changes() {
        let expected = (mode_after(&local.join(&name), before)?, fs::read(local.join(&name))?);
        for mount in 0..2 {
            let path = cluster.path(mount, &name);
            eventually("the mount is in session again", || Ok(path.metadata().is_ok()))?;
            ensure!((mode(&path)?, fs::read(&path)?) == expected, "{name}, mount {mount}, is another after a restart");
        }
    }
    Ok(())
}

#[test]
fn who_is_not_root_takes_set_id_bits_by_writing() -> Result<()> {
    bits_are_taken("through")
}

#[test]
fn who_is_not_root_takes_set_id_bits_by_writing_what_is_persisted_later() -> Result<()> {
    bits_are_taken("async")
}

#[test]
fn supplementary_groups_count() -> Result<()> {
    if !is_root() {
        run_as("supplementary groups", "an ordinary user: not at all, as he can be nobody else");
        return Ok(());
    }
    run_as("supplementary groups", "root: as a member of a group and as a stranger");
    let lake = Lake::empty()?;
    let mut cluster = cluster(&lake, "through")?;
    let [group, other] = GROUPS;
    fs::create_dir(cluster.path(0, "d"))?;
    fs::write(cluster.path(0, "d/f"), "some bytes\n")?;
    for (path, mode) in [("d", 0o2770), ("d/f", 0o660)] {
        chown(cluster.path(0, path), Some(0), Some(group))?;
        fs::set_permissions(cluster.path(0, path), Permissions::from_mode(mode))?;
    }
    // What a member does, and how it is told from what he did before.
    let scripts = |round: usize| {
        [
            "cat d/f".to_owned(),
            "ls d".to_owned(),
            format!("echo {round} >> d/f"),
            format!("echo new > d/new-{round}"),
            format!("mkdir d/dir-{round}"),
            format!("ln -s f d/link-{round}"),
            format!("mv d/new-{round} d/moved-{round}"),
            format!("chgrp {NOBODY} d/moved-{round} && chgrp {group} d/moved-{round}"),
            format!("rm d/link-{round}"),
        ]
    };
    let mut round = 0;
    let mut all_may_as_they_are = |cluster: &Cluster| -> Result<()> {
        for mount in 0..2 {
            let folder = cluster.path(mount, "");
            for script in scripts(round) {
                let refused = somebody(&folder, other, &script)?;
                let said = refused.err().with_context(|| format!("a stranger may, on mount {mount}: {script}"))?;
                ensure!(said.contains("Permission denied"), "{script}: {said}");
            }
            for script in scripts(round) {
                let done = somebody(&folder, group, &script)?;
                done.map_err(|said| anyhow::anyhow!("a member may not, on mount {mount}: {script}: {said}"))?;
            }
            let own = somebody(&folder, group, &format!("chgrp {other} d/moved-{round}"))?;
            let said = own.err().context("a file is given to a group that its owner is no member of")?;
            ensure!(said.contains("Operation not permitted"), "{said}");
            // What is made there is the group's, whoever makes it.
            for mount in 0..2 {
                for made in ["moved", "dir"] {
                    let made = cluster.path(mount, &format!("d/{made}-{round}"));
                    let found = (fs::metadata(&made)?.uid(), fs::metadata(&made)?.gid());
                    ensure!(found == (NOBODY, group), "{} is of {found:?}", made.display());
                }
            }
            round += 1;
        }
        Ok(())
    };
    all_may_as_they_are(&cluster)?;
    restart(&mut cluster)?;
    for mount in 0..2 {
        eventually("the mount is in session again", || Ok(cluster.path(mount, "d").metadata().is_ok()))?;
    }
    all_may_as_they_are(&cluster)
}
