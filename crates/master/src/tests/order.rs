//! The order in which a store comes to see what was acknowledged, under random work, with workers that answer late, in any order, or not at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use headpond_namespace::Durability;
use headpond_types::ContentId;
use headpond_ufs::{Faulty, Key, UnderStore};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::holders::Bed;

/// What a test knows of the order.
#[derive(Clone, Default)]
struct Oracle(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Contents of each key, in the order in which they were acknowledged.
    acknowledged: HashMap<String, Vec<ContentId>>,
    /// Seen in the store, a content demands that of those keys there is at least the content with that index.
    demands: HashMap<ContentId, Vec<(String, usize)>>,
    /// Commit files and renamed directories' files that were acknowledged: what else may replace objects only after them.
    barriers: Vec<(String, usize)>,
}

impl Oracle {
    /// All that was acknowledged, as what is seen later may demand it.
    fn all(&self) -> Vec<(String, usize)> {
        let known = self.0.lock().expect("not poisoned");
        known.acknowledged.iter().map(|(key, contents)| (key.clone(), contents.len() - 1)).collect()
    }

    fn barriers(&self) -> Vec<(String, usize)> {
        self.0.lock().expect("not poisoned").barriers.clone()
    }

    /// `content` of `key` is acknowledged, and demands `others` once it is seen.
    fn acknowledge(&self, key: &str, content: ContentId, others: Vec<(String, usize)>, is_barrier: bool) {
        let mut known = self.0.lock().expect("not poisoned");
        let contents = known.acknowledged.entry(key.to_owned()).or_default();
        contents.push(content);
        let index = contents.len() - 1;
        known.demands.insert(content, others);
        if is_barrier {
            known.barriers.push((key.to_owned(), index));
        }
    }

    /// Demands hold from before the acknowledgement on.
    fn demand(&self, content: ContentId, others: Vec<(String, usize)>) {
        self.0.lock().expect("not poisoned").demands.insert(content, others);
    }

    /// Looks at the store: what is seen has to be there with all that it demands. What demands is looked at first, so that what comes meanwhile
    /// demands nothing.
    async fn check(&self, store: &Faulty) {
        let (demands, acknowledged) = {
            let known = self.0.lock().expect("not poisoned");
            (known.demands.clone(), known.acknowledged.clone())
        };
        let mut seen = Vec::new();
        for key in acknowledged.keys() {
            if let Ok(meta) = store.head(&Key::from(key.clone())).await {
                seen.push((key.clone(), meta.content.expect("said when it was put")));
            }
        }
        for (by, content) in seen {
            for (key, least) in demands.get(&content).into_iter().flatten() {
                let there = store.head(&Key::from(key.clone())).await.ok().and_then(|meta| meta.content);
                let known = self.0.lock().expect("not poisoned").acknowledged.clone();
                let found = there.and_then(|there| known[key].iter().position(|known| *known == there));
                // One that is not acknowledged yet is later than all that are.
                let is_there = there.is_some() && found.is_none_or(|found| found >= *least);
                assert!(is_there, "{by} is seen and demands {least} of {key}, which has {found:?}");
            }
        }
    }
}

/// One worker of a random load.
struct Load<'b> {
    bed: &'b Bed,
    oracle: Oracle,
    random: StdRng,
    number: u32,
    /// Files of its own, which it writes again.
    files: Vec<String>,
}

impl Load<'_> {
    async fn step(&mut self) {
        self.number += 1;
        match self.random.random_range(0..100) {
            0..50 => {
                let path = format!("p{}-{}", self.files.len(), self.random.random::<u32>());
                self.files.push(path.clone());
                self.write(&path, false).await;
            }
            50..65 if !self.files.is_empty() => {
                let path = self.files[self.random.random_range(0..self.files.len())].clone();
                self.write(&path, false).await;
            }
            65..85 => {
                let name = format!("_log/{}", self.random.random::<u64>());
                self.write(&name, true).await;
            }
            85..95 => self.job().await,
            _ => tokio::time::sleep(Duration::from_millis(self.random.random_range(0..20))).await,
        }
    }

    async fn write(&mut self, key: &str, is_barrier: bool) {
        // What was acknowledged before it was begun.
        let all = self.oracle.all();
        let demands = if is_barrier { all } else { self.replaced(key) };
        let content = self.hold(key, &demands).await;
        self.oracle.acknowledge(key, content, demands, is_barrier);
    }

    /// What a plain file demands: nothing, unless it is known to replace an object.
    fn replaced(&self, key: &str) -> Vec<(String, usize)> {
        let stored = self.bed.master.core.catalog.snapshot().expect("reads");
        let root = self.bed.mount();
        let root = stored.mount_root(root.id).expect("reads").expect("is there");
        let name = super::name(key);
        let file = stored.lookup(root, &name).expect("reads");
        let replaces = file.is_some_and(|attr| !attr.version.is_empty() && !attr.dirty);
        if replaces { self.oracle.barriers() } else { Vec::new() }
    }

    async fn hold(&self, key: &str, demands: &[(String, usize)]) -> ContentId {
        let opened = self.bed.create(&format!("/m/{key}")).await.expect("opened");
        let lease = opened.lease.expect("a file");
        let grant = self.bed.copies_grant(lease).await.expect("granted");
        let content = ContentId::from(grant.content.expect("set"));
        self.oracle.demand(content, demands.to_vec());
        // Other bytes each time: the same would be the same version, of which nobody can tell which content it was.
        self.bed.commit_held(&grant, &content.to_string()).await.expect("committed");
        self.bed.writing().end(lease).await.expect("ended");
        content
    }

    /// Writes a directory under a temporary name, and renames it when it is done.
    async fn job(&mut self) {
        let id: u32 = self.random.random();
        let made = format!("_temporary/{id}");
        self.bed.make_directory(&format!("/m/{made}")).await.expect("made");
        let mut contents = Vec::new();
        for n in 0..self.random.random_range(1..5) {
            contents.push((n.to_string(), self.hold(&format!("{made}/{n}"), &[]).await));
        }
        let with_commit = self.random.random_bool(0.5);
        let before = self.oracle.all();
        for (_, content) in &contents {
            self.oracle.demand(*content, before.clone());
        }
        let commit = if with_commit {
            let content = self.hold(&format!("{made}/_SUCCESS"), &[]).await;
            self.oracle.demand(content, before.clone());
            Some(content)
        } else {
            None
        };
        let out = format!("out-{id}");
        self.bed.rename(&format!("/m/{made}"), &format!("/m/{out}")).await.expect("renamed");
        for (name, content) in &contents {
            self.oracle.acknowledge(&format!("{out}/{name}"), *content, before.clone(), true);
        }
        if let Some(commit) = commit {
            let below = contents.iter().map(|(name, _)| (format!("{out}/{name}"), 0));
            let demands = before.into_iter().chain(below).collect();
            self.oracle.acknowledge(&format!("{out}/_SUCCESS"), commit, demands, true);
        }
    }
}

async fn run(seed: u64, steps: u32, restarts: bool) {
    println!("seed {seed}");
    let mut bed = Bed::new(Durability::Deferred, &[]).await;
    bed.make_directory("/m/_log").await.expect("made");
    bed.make_directory("/m/_temporary").await.expect("made");
    bed.holder.be_unreliable(seed, 0.2, Duration::from_millis(15));
    let oracle = Oracle::default();
    let (observer, store) = (oracle.clone(), bed.store.clone());
    let checks = Arc::new(Mutex::new(Vec::new()));
    let noted = checks.clone();
    bed.holder.observe(Box::new(move || {
        let (observer, store, noted) = (observer.clone(), store.clone(), noted.clone());
        Box::pin(async move {
            // A check that fails in the worker would only be a failed call.
            let checked = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(observer.check(&store))).await;
            noted.lock().expect("not poisoned").push(checked.is_ok());
        })
    }));
    for round in 0..if restarts { 4 } else { 1 } {
        let mut loads: Vec<_> = (0..3)
            .map(|n| Load {
                bed: &bed,
                oracle: oracle.clone(),
                random: StdRng::seed_from_u64(seed * 1000 + round * 10 + n),
                number: 0,
                files: Vec::new(),
            })
            .collect();
        let all = loads.iter_mut().map(async |load| {
            for _ in 0..steps {
                load.step().await;
            }
        });
        futures::future::join_all(all).await;
        drop(loads);
        if restarts {
            bed = bed.restart().await;
        }
    }
    bed.holder.be_unreliable(seed, 0.0, Duration::ZERO);
    bed.persisted().await;
    oracle.check(&bed.store).await;
    let known = oracle.0.lock().expect("not poisoned").acknowledged.clone();
    for (key, contents) in known {
        let there = bed.store.head(&Key::from(key.clone())).await.expect("all is there");
        assert_eq!(there.content, contents.last().copied(), "{key}");
    }
    let checks = checks.lock().expect("not poisoned");
    assert!(!checks.is_empty() && checks.iter().all(|good| *good), "seed {seed}: the store showed what it must not");
}

/// As in `moves`.
fn seed(default: u64) -> u64 {
    std::env::var("HEADPOND_TEST_SEED").map_or(default, |seed| seed.parse().expect("a number"))
}

#[tokio::test]
async fn nothing_is_seen_before_what_it_has_to_wait_for() {
    for default in [1, 2] {
        run(seed(default), 40, false).await;
    }
}

#[tokio::test]
async fn the_order_outlives_the_master() {
    run(seed(3), 12, true).await;
}
