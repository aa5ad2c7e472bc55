//! Any set of keys: the tree is what a plain model makes of it, listed one directory at a time or all at once, before
//! and after the keys change behind our back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{INTERVAL, Rig};

/// Paths below the mount point with a slash behind directories, and keys skipped in the directories together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tree {
    paths: BTreeSet<String>,
    skipped: u64,
}

/// What a directory holds: each raw name, and whether as file and as directory.
type Names<'a> = BTreeMap<&'a str, (bool, bool)>;

fn model(keys: &BTreeSet<String>) -> Tree {
    let mut tree = Tree::default();
    descend("", keys, &mut tree);
    tree
}

/// Looks at the directory `prefix` as a delimited listing would show it.
fn descend(prefix: &str, keys: &BTreeSet<String>, tree: &mut Tree) {
    let mut names = Names::new();
    for key in keys {
        let Some(rest) = key.strip_prefix(prefix).filter(|rest| !rest.is_empty()) else { continue };
        match rest.split_once('/') {
            Some((name, _)) => names.entry(name).or_default().1 = true,
            None => names.entry(rest).or_default().0 = true,
        }
    }
    for (name, (file, directory)) in names {
        if matches!(name, "" | "." | "..") || name.contains('\0') || name.len() > 255 {
            tree.skipped += u64::from(file) + u64::from(directory);
            continue;
        }
        tree.skipped += u64::from(file && directory);
        let path = format!("{prefix}{name}");
        if directory {
            let below = format!("{path}/");
            tree.paths.insert(below.clone());
            descend(&below, keys, tree);
        } else {
            tree.paths.insert(path);
        }
    }
}

fn key() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[ab]{1,2}",
        2 => "[ab][-!.0~][ab]?",
        1 => Just(String::new()),
        1 => Just(".".to_owned()),
        1 => Just("..".to_owned()),
        1 => Just("x".repeat(256)),
        1 => Just("a\0".to_owned()),
    ];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn keys() -> impl Strategy<Value = BTreeSet<String>> {
    let valid = |keys: BTreeSet<String>| keys.into_iter().filter(|key| !matches!(key.as_str(), "" | "/")).collect();
    proptest::collection::btree_set(key(), 0..25).prop_map(valid)
}

/// Everything below the mount point, one directory at a time.
async fn walked(rig: &Rig) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(prefix) = open.pop() {
        let names = rig.list(&format!("/m/{prefix}")).await.expect("listed");
        assert!(names.is_sorted_by_key(|name| name.trim_end_matches('/').to_owned()), "{names:?}");
        for name in names {
            let path = format!("{prefix}{name}");
            if path.ends_with('/') {
                open.push(path.clone());
            }
            assert!(paths.insert(path), "{name} in {prefix:?} was listed twice");
        }
    }
    paths
}

async fn exchange(rig: &Rig, before: &BTreeSet<String>, after: &BTreeSet<String>) {
    for key in before.difference(after) {
        rig.delete(key).await;
    }
    for key in after.difference(before) {
        rig.put(key, "x").await;
    }
    rig.advance(INTERVAL);
}

fn skipped(rig: &Rig, paths: &BTreeSet<String>) -> u64 {
    let snapshot = rig.master.core.catalog.snapshot().expect("readable");
    let root = snapshot.mount_root(rig.mount().id).expect("readable").expect("mounted");
    let mut dirs = BTreeMap::from([(String::new(), root)]);
    for path in paths.iter().filter(|path| path.ends_with('/')) {
        let (parent, name) =
            path.trim_end_matches('/').rsplit_once('/').map_or(("", &path[..path.len() - 1]), |(a, b)| (a, b));
        let parent = dirs[&if parent.is_empty() { String::new() } else { format!("{parent}/") }];
        let attr = snapshot.lookup(parent, &super::name(name)).expect("readable").expect("listed");
        dirs.insert(path.clone(), attr.inode);
    }
    let listed = |dir| snapshot.listed(dir).expect("readable").map_or(0, |listed| listed.skipped);
    dirs.into_values().map(listed).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_what_the_keys_imply(first in keys(), second in keys(), recursive in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let rig = Rig::new(&[]).await;
            let mut before = BTreeSet::new();
            for keys in [first, second] {
                exchange(&rig, &before, &keys).await;
                let expected = model(&keys);
                if recursive {
                    let listed: BTreeSet<_> = rig.tree("/m").await.expect("listed").into_iter().collect();
                    assert_eq!(listed, expected.paths);
                }
                let paths = walked(&rig).await;
                assert_eq!(paths, expected.paths);
                assert_eq!(skipped(&rig, &paths), expected.skipped);
                before = keys;
            }
        });
    }

    #[test]
    fn every_name_alone_is_what_the_keys_imply(first in keys(), second in keys()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let rig = Rig::new(&[]).await;
            let mut before = BTreeSet::new();
            let asked: BTreeSet<String> = model(&first).paths.union(&model(&second).paths).cloned().collect();
            for keys in [first, second] {
                exchange(&rig, &before, &keys).await;
                let expected = model(&keys).paths;
                for path in &asked {
                    let bare = path.trim_end_matches('/');
                    let found = match rig.find(&format!("/m/{bare}")).await {
                        Ok(found) => found,
                        // The way leads through what is a file now.
                        Err(error) => {
                            assert_eq!(error.kind(), headpond_types::ErrorKind::NotADirectory);
                            None
                        }
                    };
                    let directory = found.as_ref().map(|attr| attr.kind == headpond_types::FileKind::Directory);
                    let model = if expected.contains(&format!("{bare}/")) {
                        Some(true)
                    } else {
                        expected.contains(bare).then_some(false)
                    };
                    assert_eq!(directory, model, "{bare}");
                }
                before = keys;
            }
        });
    }
}
