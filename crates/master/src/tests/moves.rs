//! Any sequence of changes, with the relocator at work in between and masters that end: the tree is what a plain model says at every
//! moment, and when all is quiet the store holds exactly the files of the tree.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use headpond_namespace::Durability;
use headpond_types::{InodeId, Result};
use headpond_ufs::{Fault, Memory, Op, UfsErrorKind, UnderStore};

use super::{
    INTERVAL, Rig,
    holders::{Bed, persistence},
    plain::Plain,
    writing::keys_of,
};

/// Paths without a slash before; `None` for a directory, else the bytes of the file.
type Tree = BTreeMap<String, Option<String>>;

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("fits") % sides
    }
}

struct Play {
    rig: Bed,
    durability: Durability,
    /// The store, which shows all that it holds.
    all: Memory,
    dice: Dice,
    tree: Tree,
    /// What directories were when they were looked at last: they keep their attributes as long as they are the same.
    inodes: BTreeMap<String, InodeId>,
    log: Vec<String>,
}

/// What has this name, or lies below it, is stored under another only, where a mount defers.
const TEMPORARY: &str = "d";

/// Whether a path is another, or lies below it.
fn is_within(path: &str, other: &str) -> bool {
    path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Moves what is at or below `from` to `to`, which is replaced.
fn carry<V>(paths: &mut BTreeMap<String, V>, from: &str, to: &str) {
    paths.remove(to);
    let moved: Vec<_> = paths.keys().filter(|path| is_within(path, from)).cloned().collect();
    for path in moved {
        let value = paths.remove(&path).expect("is there");
        paths.insert(format!("{to}{}", &path[from.len()..]), value);
    }
}

/// Exchanges what is at or below two paths.
fn swap<V>(paths: &mut BTreeMap<String, V>, one: &str, other: &str) {
    carry(paths, one, "\0");
    carry(paths, other, one);
    carry(paths, "\0", other);
}

impl Play {
    /// With some keys that no listing has shown yet, in a store as `around` makes it. One that `hides` shows nothing below what is an object.
    async fn begin(
        seed: u64,
        hides: bool,
        durability: Durability,
        around: impl FnOnce(Arc<dyn UnderStore>) -> Arc<dyn UnderStore>,
    ) -> Self {
        let keys = ["a/a/a", "a/a/b", "a/b", "b/a", "b/c/d", "c"];
        let all = Memory::named(&format!("moves-{}", rand::random::<u64>()));
        let store: Arc<dyn UnderStore> = Arc::new(if hides { all.clone().hiding() } else { all.clone() });
        let store = around(store);
        let mut persistence = persistence(durability);
        persistence.temporary_patterns = vec![TEMPORARY.to_owned()];
        let rig = Bed::over(persistence, &keys, |_| store).await;
        rig.come_later();
        let mut tree = Tree::new();
        for key in keys {
            for (at, _) in key.match_indices('/') {
                tree.insert(key[..at].to_owned(), None);
            }
            tree.insert(key.to_owned(), Some(key.to_owned()));
        }
        Self { rig, durability, all, dice: Dice(seed | 1), tree, inodes: BTreeMap::new(), log: Vec::new() }
    }

    fn pick(&mut self, wanted: impl Fn(&Option<String>) -> bool) -> Option<String> {
        let found: Vec<_> = self.tree.iter().filter(|(_, node)| wanted(node)).map(|(path, _)| path.clone()).collect();
        (!found.is_empty()).then(|| found[self.dice.roll(found.len())].clone())
    }

    /// A path in a directory that there is, at most four deep.
    fn place(&mut self) -> String {
        let mut dirs: Vec<_> =
            self.tree.iter().filter(|(_, node)| node.is_none()).map(|(path, _)| format!("{path}/")).collect();
        dirs.retain(|dir| dir.matches('/').count() < 4);
        dirs.push(String::new());
        let dir = dirs[self.dice.roll(dirs.len())].clone();
        let name = ["a", "b", "c", "d"][self.dice.roll(4)];
        format!("{dir}{name}")
    }

    fn is_empty(&self, dir: &str) -> bool {
        let below = format!("{dir}/");
        !self.tree.keys().any(|path| path.starts_with(&below))
    }

    async fn step(&mut self, number: usize) {
        match self.dice.roll(15) {
            0 | 1 => {
                let path = self.place();
                if self.tree.get(&path) != Some(&None) {
                    let body = if self.dice.roll(3) == 0 { "the same".to_owned() } else { format!("bytes {number}") };
                    self.log.push(format!("write {path} {body}"));
                    self.write(&path, &body).await;
                    self.tree.insert(path, Some(body));
                }
            }
            2 => {
                let path = self.place();
                if !self.tree.contains_key(&path) {
                    self.log.push(format!("mkdir {path}"));
                    self.rig
                        .make_directory(&format!("/m/{path}"))
                        .await
                        .unwrap_or_else(|error| panic!("{path}: {error}"));
                    self.tree.insert(path, None);
                }
            }
            3 => {
                if let Some(path) = self.pick(Option::is_some) {
                    self.log.push(format!("unlink {path}"));
                    self.repeat(async |rig| rig.unlink(&format!("/m/{path}")).await).await;
                    self.tree.remove(&path);
                }
            }
            4 => {
                if let Some(path) = self.pick(Option::is_none).filter(|path| self.is_empty(path)) {
                    self.log.push(format!("rmdir {path}"));
                    self.repeat(async |rig| rig.remove_directory(&format!("/m/{path}")).await).await;
                    self.tree.remove(&path);
                    self.inodes.remove(&path);
                }
            }
            5 | 6 => self.exchange().await,
            7 => {
                if let Some(path) = self.pick(Option::is_none) {
                    self.log.push(format!("remove {path} with all below"));
                    self.repeat(async |rig| rig.remove_tree(&format!("/m/{path}")).await).await;
                    self.tree.retain(|other, _| !is_within(other, &path));
                    self.inodes.retain(|other, _| !is_within(other, &path));
                }
            }
            _ => self.rename().await,
        }
        for _ in 0..[0, 0, 3, 40, 400][self.dice.roll(5)] {
            tokio::task::yield_now().await;
        }
    }

    async fn write(&self, path: &str, body: &str) {
        let path = format!("/m/{path}");
        match self.durability {
            Durability::Through => drop(self.rig.write(&path, body).await),
            _ => drop(self.rig.hold(&path, body).await),
        }
    }

    async fn rename(&mut self) {
        let Some(from) = self.pick(|_| true) else { return };
        let to = self.place();
        let is_directory = self.tree[&from].is_none();
        let fits = match self.tree.get(&to) {
            None => true,
            Some(None) => is_directory && self.is_empty(&to),
            Some(Some(_)) => !is_directory,
        };
        if !fits || to == from || to.starts_with(&format!("{from}/")) {
            return;
        }
        self.log.push(format!("rename {from} {to}"));
        self.repeat(async |rig| rig.rename(&format!("/m/{from}"), &format!("/m/{to}")).await.map(|_| ())).await;
        carry(&mut self.tree, &from, &to);
        carry(&mut self.inodes, &from, &to);
    }

    async fn exchange(&mut self) {
        let (Some(one), Some(other)) = (self.pick(|_| true), self.pick(|_| true)) else { return };
        if is_within(&one, &other) || is_within(&other, &one) {
            return;
        }
        self.log.push(format!("exchange {one} {other}"));
        self.repeat(async |rig| rig.exchange(&format!("/m/{one}"), &format!("/m/{other}")).await).await;
        swap(&mut self.tree, &one, &other);
        swap(&mut self.inodes, &one, &other);
    }

    /// Tries until the store lets it.
    async fn repeat<T>(&self, change: impl AsyncFn(&Rig) -> Result<T>) {
        for _ in 0..20 {
            match change(&self.rig).await {
                Ok(_) => return,
                Err(error) if error.kind() == headpond_types::ErrorKind::Unavailable => {}
                Err(error) => {
                    self.dump().await;
                    panic!("{error} after {:#?}", self.log)
                }
            }
        }
        panic!("the store never lets it");
    }

    /// Says where everything is.
    async fn dump(&self) {
        let snapshot = self.rig.master.core.catalog.snapshot().expect("readable");
        println!("{:#?}", snapshot.relocations().expect("readable"));
        println!("{:?}", snapshot.left_objects(self.rig.mount().id).expect("readable"));
        for (path, body) in &self.tree {
            let attr = self.rig.find(&format!("/m/{path}")).await.ok().flatten();
            let location = attr.as_ref().map(|attr| snapshot.location(attr.inode));
            println!("{path} {body:?}: {:?} {location:?}", attr.map(|attr| (attr.inode, attr.version)));
        }
        for key in keys_of(&self.all).await {
            println!("{key}: {:?}", self.rig.object(&key).await);
        }
    }

    fn shown(&self) -> Vec<String> {
        let mut shown: Vec<_> = self
            .tree
            .iter()
            .map(|(path, node)| if node.is_none() { format!("{path}/") } else { path.clone() })
            .collect();
        shown.sort_unstable();
        shown
    }

    async fn check_tree(&mut self) {
        let mut listed = self.rig.tree("/m").await.expect("listed");
        listed.sort_unstable();
        if listed != self.shown() {
            self.dump().await;
        }
        assert_eq!(listed, self.shown(), "after {:#?}", self.log);
        for path in self.tree.iter().filter(|(_, node)| node.is_none()).map(|(path, _)| path) {
            let inode = self.rig.inode(&format!("/m/{path}")).await;
            let before = self.inodes.insert(path.clone(), inode).unwrap_or(inode);
            assert_eq!(inode, before, "{path} was forgotten after {:#?}", self.log);
        }
    }

    /// Whether a file is not stored as it is before it has another name.
    fn may_be_missing(&self, path: &str) -> bool {
        self.durability == Durability::Deferred && path.split('/').any(|name| name == TEMPORARY)
    }

    /// Waits until all is moved, and compares with the store.
    async fn check_store(&mut self) {
        let relocator = &self.rig.master.core.relocator;
        let mut rounds = 0;
        self.rig.holder.open();
        while relocator.pending() > 0 || !relocator.littered().expect("readable").is_empty() || !self.rig.is_persisted()
        {
            relocator.retry_now();
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            rounds += 1;
            let left = self.rig.master.core.catalog.snapshot().expect("readable").relocations().expect("readable");
            assert!(rounds < 20_000, "{left:#?} {:?} after {:#?}", relocator.problems(), self.log);
        }
        let mut keys = keys_of(&self.all).await;
        let markers: Vec<_> = keys.extract_if(.., |key| key.ends_with('/')).collect();
        let mut files: Vec<_> =
            self.tree.iter().filter(|(_, node)| node.is_some()).map(|(path, _)| path.clone()).collect();
        // What has a temporary name may be stored from before it had it.
        files.retain(|path| !self.may_be_missing(path) || keys.contains(path));
        if keys != files {
            self.dump().await;
        }
        assert_eq!(keys, files, "after {:#?}", self.log);
        for marker in markers {
            let dir = marker.trim_end_matches('/');
            if self.tree.get(dir) != Some(&None) {
                self.dump().await;
            }
            assert_eq!(self.tree.get(dir), Some(&None), "marker {marker} after {:#?}", self.log);
        }
        for (path, node) in &self.tree {
            if let Some(body) = node.as_ref().filter(|_| !self.may_be_missing(path)) {
                assert_eq!(self.rig.object(path).await, *body, "{path} after {:#?}", self.log);
            }
        }
        self.rig.advance(INTERVAL);
        self.check_tree().await;
    }
}

/// Plays in stores of both kinds; for odd seeds copies have versions of their own.
async fn play(seed: u64, steps: usize, faults: f64, restarts: bool) {
    play_as(Durability::Through, seed, steps, faults, restarts).await;
}

async fn play_as(durability: Durability, seed: u64, steps: usize, faults: f64, restarts: bool) {
    let around = |store| if seed.is_multiple_of(2) { store } else { Plain::in_parts(store) };
    for hides in [false, true] {
        let kind = if hides { "in a store that hides what lies below an object" } else { "plain" };
        println!("seed {seed}, {durability:?}, {kind}");
        play_in(Play::begin(seed, hides, durability, around).await, steps, faults, restarts).await;
    }
}

/// Plays while time goes on.
async fn play_in(play: Play, steps: usize, faults: f64, restarts: bool) {
    let clock = play.rig.clock.clone();
    let time = async {
        loop {
            clock.advance(Duration::from_nanos(1));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = run(play, steps, faults, restarts) => {}
        () = time => {}
    }
}

async fn run(mut play: Play, steps: usize, faults: f64, restarts: bool) {
    for number in 0..steps {
        if faults > 0.0 {
            play.rig.store.chance(Some(Op::Copy), faults, Fault::Error(UfsErrorKind::Transient));
            play.rig.store.chance(Some(Op::CompleteMultipart), faults, Fault::LostAnswer);
            play.rig.store.chance(Some(Op::Delete), faults, Fault::Error(UfsErrorKind::Transient));
        }
        play.step(number).await;
        play.rig.store.heal();
        match play.dice.roll(40) {
            0 => play.check_tree().await,
            1 => {
                play.log.push("quiet".to_owned());
                play.check_store().await;
                play.log.clear();
            }
            2 if restarts => {
                play.log.push("restart".to_owned());
                play = Play { rig: play.rig.restart().await, ..play };
            }
            3 => play.rig.advance(INTERVAL),
            4..8 => play.rig.master.core.relocator.retry_now(),
            8 => play.rig.holder.close(),
            9..12 => play.rig.holder.open(),
            _ => {}
        }
    }
    play.check_store().await;
}

/// Always the same, unless another is asked for: what others find is looked for on purpose, and not when something else is checked.
fn seeds() -> Vec<u64> {
    match std::env::var("HEADPOND_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..=4).collect(),
    }
}

#[tokio::test]
async fn the_store_comes_to_hold_what_the_tree_says() {
    for seed in seeds() {
        play(seed, 600, 0.0, false).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_when_copies_and_deletions_fail() {
    for seed in seeds() {
        play(seed, 300, 0.2, false).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_when_masters_end() {
    for seed in seeds() {
        play(seed, 300, 0.0, true).await;
    }
}

#[tokio::test]
async fn a_store_that_takes_no_condition_on_copies_and_deletions_comes_to_hold_it_too() {
    let around = |store| Plain::through(store, &Arc::default());
    for seed in seeds() {
        println!("seed {seed}");
        play_in(Play::begin(seed, true, Durability::Through, around).await, 600, 0.0, false).await;
    }
    // Each end of a master costs seconds.
    play_in(Play::begin(1, true, Durability::Through, around).await, 120, 0.0, true).await;
}

#[tokio::test]
async fn the_store_comes_to_hold_what_the_tree_says_where_it_is_persisted_later() {
    for seed in seeds() {
        for durability in [Durability::Async, Durability::Deferred] {
            play_as(durability, seed, 300, 0.0, false).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_that_is_persisted_later_when_copies_and_deletions_fail() {
    for seed in seeds() {
        for durability in [Durability::Async, Durability::Deferred] {
            play_as(durability, seed, 150, 0.2, false).await;
        }
    }
}
