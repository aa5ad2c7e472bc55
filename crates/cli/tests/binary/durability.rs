//! What `up` and `admin` say of persisting, and what `fs` shows of it.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::ground::{Ground, json, stderr, text};

/// `keys` of an object.
fn some_of(object: &Value, keys: &[&str]) -> Value {
    keys.iter().map(|&key| (key.to_owned(), object[key].clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn mounts_say_how_they_persist() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    let (data, other) = (ground.path("data").display().to_string(), format!("file://{}", ground.path("").display()));
    ground.up(&[&data, "--no-mount", "--durability", "async", "--durability-rule", "*.tmp=scratch"])?;
    let add = ["admin", "mount", "add", "/other", &other, "--durability=deferred", "--commit-pattern=done"];
    text(&ground, &[&add[..], &["--temporary-pattern=none", "--copies=3", "--strict-copies"]].concat())?;

    let mounts = json(&ground, &["admin", "mounts"])?;
    let keys = ["path", "durability", "durability_rules", "temporary_patterns", "copies", "strict_copies"];
    let root = serde_json::json!({"path": "/", "durability": "async", "durability_rules": ["*.tmp=scratch"], "copies": 2,
        "strict_copies": false, "temporary_patterns": ["_temporary", ".spark-staging-*", ".hive-staging*", "*.inprogress*"]});
    assert_eq!(some_of(&mounts[0], &keys), root);
    assert!(mounts[0]["commit_patterns"].as_array().is_some_and(|all| all.contains(&"_delta_log/*".into())));
    let added = serde_json::json!({"path": "/other", "durability": "deferred", "durability_rules": [], "copies": 3,
        "strict_copies": true, "temporary_patterns": []});
    assert_eq!(some_of(&mounts[1], &keys), added);
    assert_eq!(mounts[1]["commit_patterns"], serde_json::json!(["done"]));
    let shown = text(&ground, &["admin", "mounts"])?;
    for words in ["async, *.tmp=scratch", "deferred, 3 copies strictly, commit done, temporary none"] {
        assert!(shown.contains(words), "{words:?} is not in:\n{shown}");
    }
    Ok(())
}

#[test]
fn what_the_store_has_is_not_pending() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    let data = ground.path("data").display().to_string();
    ground.up(&[&data, "--no-mount"])?;
    let status = &json(&ground, &["fs", "status", "/"])?[0];
    let expected = serde_json::json!({"path": "/", "persisted": true, "writing": [], "moving": [], "dirty": [], "due": 0,
        "due_bytes": 0, "not_due": 0, "not_due_bytes": 0});
    assert_eq!(status, &expected);
    assert_eq!(text(&ground, &["fs", "status", "/"])?, "/: persisted\n");
    assert_eq!(text(&ground, &["fs", "sync", "/"])?, "");
    Ok(())
}

#[test]
fn what_the_store_lacks_is_told_persisted_and_not_forgotten() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    ground.write("local", "bytes")?;
    let (data, local) = (ground.path("data").display().to_string(), ground.path("local").display().to_string());
    ground.up(&[&data, "--no-mount", "--durability", "scratch"])?;
    text(&ground, &["fs", "put", &local, "/f"])?;
    let status = &json(&ground, &["fs", "status", "/"])?[0];
    let expected = serde_json::json!({"persisted": false, "due": 0, "not_due": 1, "not_due_bytes": 5});
    assert_eq!(some_of(status, &["persisted", "due", "not_due", "not_due_bytes"]), expected);
    assert_eq!((&status["dirty"][0]["path"], &status["dirty"][0]["state"]), (&"/f".into(), &"scratch".into()));
    assert_eq!(text(&ground, &["fs", "sync", "/"])?, "", "it is not on its way");
    assert!(!ground.path("data/f").exists());

    // Another mount would not know of it.
    ground.process.as_mut().context("runs")?.interrupt()?;
    let refused = ground.up_command(&[&data, "--no-mount"]).output()?;
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(17), "{said}");
    assert!(said.contains("1 files were written under other options"), "{said}");

    ground.up(&[&data, "--no-mount", "--durability", "scratch"])?;
    assert_eq!(json(&ground, &["fs", "persist", "/"])?, [serde_json::json!({"path": "/", "files": 1})]);
    assert_eq!(text(&ground, &["fs", "sync", "--timeout", "30s", "/"])?, "");
    assert_eq!(std::fs::read_to_string(ground.path("data/f"))?, "bytes");
    assert_eq!(text(&ground, &["admin", "problems"])?, "");
    let none = ground.run(&["admin", "problems", "skip", "/f"])?;
    assert_eq!(none.status.code(), Some(3), "{}", stderr(&none));
    Ok(())
}
