//! The same steps at random in a mount and in a plain directory: answers, errors and trees must be the same, and the bucket ends as the
//! tree says.
//!
//! `HEADPOND_TEST_SEED` repeats a run, `HEADPOND_TEST_STEPS` makes it longer.

mod actor;
mod calls;
mod choice;
mod outcome;
mod step;
mod tree;

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use headpond_tests::{can_passthrough, noise, run_as};

use self::{
    actor::Actor,
    choice::Choice,
    outcome::{Began, Outcome, compare},
    step::Step,
    tree::Tree,
};
use crate::lake::Lake;

/// Steps between two comparisons of whole trees.
const EVERY: usize = 100;

/// Steps that a failure shows.
const SHOWN: usize = 40;

/// Two roots, and what is done to both.
struct Run {
    reference: Actor,
    subject: Actor,
    choice: Choice,
    began: Began,
    done: Vec<(Step, Outcome)>,
}

impl Run {
    fn new(seed: u64, began: Began, reference: &Path, subject: &Path, reads_while_written: bool) -> Self {
        Self {
            reference: Actor::new(reference.to_owned(), began),
            subject: Actor::new(subject.to_owned(), began),
            choice: Choice::new(seed, reads_while_written),
            began,
            done: Vec::new(),
        }
    }

    /// Does so many steps in both; at the end nothing is open.
    fn run(&mut self, steps: usize) -> Result<()> {
        for number in 1..=steps {
            self.step().with_context(|| format!("step {number}; before it:{}", self.last()))?;
            if number % EVERY == 0 {
                self.compare().with_context(|| format!("after step {number}:{}", self.last()))?;
            }
        }
        self.reference.close_all()?;
        self.subject.close_all()?;
        self.compare().with_context(|| format!("at the end:{}", self.last()))
    }

    fn step(&mut self) -> Result<()> {
        let before = Tree::names(&self.reference.root, self.began)?;
        let step = self.choice.next(&self.reference, &before);
        let expected = self.reference.act(&step)?;
        let found = self.subject.act(&step)?;
        compare(&step, &expected, &found)?;
        self.done.push((step, expected));
        Ok(())
    }

    fn compare(&self) -> Result<()> {
        let reference = Tree::read(&self.reference.root, self.began)?;
        reference.must_be(&Tree::read(&self.subject.root, self.began)?, "in the mount")
    }

    fn last(&self) -> String {
        let first = self.done.len().saturating_sub(SHOWN);
        let lines = (first + 1..).zip(&self.done[first..]);
        lines.map(|(number, (step, outcome))| format!("\n  {number}: {step:?} -> {outcome:?}")).collect()
    }

    /// Kinds of step with how many of them succeeded and failed.
    fn kinds(&self) -> BTreeMap<String, [usize; 2]> {
        let mut kinds = BTreeMap::<_, [usize; 2]>::new();
        for (step, outcome) in &self.done {
            kinds.entry(step.kind()).or_default()[usize::from(matches!(outcome, Outcome::Failed(_)))] += 1;
        }
        kinds
    }
}

fn number(variable: &str, default: u64) -> Result<u64> {
    std::env::var(variable).ok().map_or(Ok(default), |text| text.parse().with_context(|| variable.to_owned()))
}

fn seed() -> Result<u64> {
    let seed = number("HEADPOND_TEST_SEED", 20_261)?;
    println!("HEADPOND_TEST_SEED={seed}");
    Ok(seed)
}

fn steps(default: usize) -> Result<usize> {
    Ok(usize::try_from(number("HEADPOND_TEST_STEPS", default as u64)?)?)
}

/// Objects that a bucket may hold before the run.
const BEFORE: [(&str, usize); 6] =
    [("a/b/f", 10), ("a/b/g", 70_000), ("a/c", 0), ("a-x", 300), ("b/c/d/e", 4_096), ("p%2F+q/x&y<z", 1)];

/// Runs a mount against a directory, then looks through another mount and into the bucket.
fn mount_against_directory(durability: &str, passthrough: bool, before: &[(&str, usize)]) -> Result<()> {
    let (seed, began) = (seed()?, Began::now());
    let reference = tempfile::tempdir()?;
    for (number, (key, length)) in (0..).zip(before) {
        let path = reference.path().join(key);
        std::fs::create_dir_all(path.parent().context("a parent")?)?;
        std::fs::write(path, noise(number, *length))?;
    }
    let lake = Lake::of((0..).zip(before).map(|(number, (key, length))| (*key, noise(number, *length))))?;
    let builder = lake.cluster().store(&["--durability", durability]);
    let mut cluster = builder.env("HEADPOND_MOUNT__PASSTHROUGH", &passthrough.to_string()).start()?;
    let mut run = Run::new(seed, began, reference.path(), &cluster.path(0, ""), !passthrough);
    let implied = {
        let tree = Tree::names(reference.path(), run.began)?;
        tree.paths(outcome::Kind::Directory).into_iter().filter_map(|path| tree.inode(path)).collect()
    };
    run.compare()?;
    run.run(steps(600)?).with_context(|| format!("HEADPOND_TEST_SEED={seed}"))?;
    println!("{} calls were repeated since objects were being moved", run.subject.waits);
    let expected = Tree::read(reference.path(), run.began)?;
    let other = cluster.mount(9)?;
    expected.must_be(&Tree::read(&cluster.path(other, ""), run.began)?, "in another mount")?;
    let (mut objects, mut either) = expected.objects(&implied);
    if durability == "through" {
        lake.must_become_but(&objects, &either).with_context(|| format!("HEADPOND_TEST_SEED={seed}:{}", run.last()))?;
    } else {
        // A directory needs no marker that has an object below.
        let keys: Vec<_> = objects.keys().filter(|key| key.ends_with('/')).cloned().collect();
        for key in keys.into_iter().filter(|key| expected.has_entries(key)) {
            objects.remove(&key);
            either.insert(key);
        }
        cluster.run_ok(&["fs", "sync", "/", "--timeout", "90s"])?;
        lake.must_be(&objects, &either).with_context(|| format!("HEADPOND_TEST_SEED={seed}:{}", run.last()))?;
    }
    expected.must_be(&Tree::read(&cluster.path(0, ""), run.began)?, "once the bucket is as it should be")
}

#[test]
fn a_mount_is_as_a_plain_directory() -> Result<()> {
    mount_against_directory("through", false, &[])
}

#[test]
fn a_mount_that_persists_later_is_as_a_plain_directory() -> Result<()> {
    mount_against_directory("async", false, &BEFORE)
}

#[test]
fn a_mount_that_persists_later_and_passes_reads_through_is_as_a_plain_directory() -> Result<()> {
    mount_against_directory("async", true, &[])
}

#[test]
fn a_mount_that_passes_reads_through_is_as_a_plain_directory() -> Result<()> {
    if !can_passthrough() {
        run_as("the model with passthrough", "an ordinary user: without");
    }
    mount_against_directory("through", true, &BEFORE)
}

#[test]
fn the_model_does_every_kind_of_step_and_two_directories_agree() -> Result<()> {
    let seed = seed()?;
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut run = Run::new(seed, Began::now(), one.path(), other.path(), true);
    run.run(6_000).with_context(|| format!("HEADPOND_TEST_SEED={seed}"))?;
    let kinds = run.kinds();
    println!("{kinds:?}\n{} kinds", kinds.len());
    ensure!(kinds.len() >= 72, "{} kinds of step", kinds.len());
    let never: Vec<_> = kinds.iter().filter(|(_, counts)| counts[0] == 0).map(|(kind, _)| kind).collect();
    ensure!(never.is_empty(), "{never:?} never succeed");
    let errors: BTreeSet<_> = run.done.iter().filter_map(|(_, outcome)| errno(outcome)).collect();
    for errno in [
        libc::ENOENT,
        libc::EEXIST,
        libc::ENOTDIR,
        libc::EISDIR,
        libc::ENOTEMPTY,
        libc::ENAMETOOLONG,
        libc::EBADF,
        libc::EINVAL,
    ] {
        ensure!(errors.contains(&errno), "no step failed with {errno}: {errors:?}");
    }
    Ok(())
}

const fn errno(outcome: &Outcome) -> Option<i32> {
    if let Outcome::Failed(errno) = outcome { Some(*errno) } else { None }
}

#[test]
fn the_model_finds_what_differs() -> Result<()> {
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut run = Run::new(seed()?, Began::now(), one.path(), other.path(), true);
    run.run(200)?;
    let tree = Tree::read(other.path(), run.began)?;
    // With one name, and without attributes: what is made anew has no others.
    let is_plain = |file: &&str| {
        let there = std::fs::metadata(other.path().join(file));
        there.is_ok_and(|meta| meta.nlink() == 1) && !tree.is_extended(file)
    };
    let file = tree.paths(outcome::Kind::File).into_iter().find(is_plain).context("no file after 200 steps")?;
    let (file, sound) = (other.path().join(file), std::fs::read(other.path().join(file))?);
    let break_it: [(&str, &dyn Fn() -> Result<()>); 4] = [
        ("a byte", &|| Ok(std::fs::write(&file, [&sound[..], b"x"].concat())?)),
        ("a file too much", &|| Ok(std::fs::write(other.path().join("too much"), "")?)),
        ("a file missing", &|| Ok(std::fs::remove_file(&file)?)),
        ("a mode", &|| {
            use std::os::unix::fs::PermissionsExt as _;
            Ok(std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o707))?)
        }),
    ];
    for (what, break_it) in break_it {
        let before = std::fs::metadata(&file)?;
        break_it()?;
        ensure!(run.compare().is_err(), "{what} is not found");
        let _absent = std::fs::remove_file(other.path().join("too much"));
        std::fs::write(&file, &sound)?;
        std::os::unix::fs::chown(&file, Some(before.uid()), Some(before.gid()))?;
        std::fs::set_permissions(&file, before.permissions())?;
        std::fs::File::options().write(true).open(&file)?.set_modified(before.modified()?)?;
        run.compare().with_context(|| format!("{what} was mended"))?;
    }
    Ok(())
}
