use std::{collections::BTreeMap, fs, time::Duration};

use serde::{Deserialize, Serialize};

use super::*;
use crate::CredentialConfig;

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    worker: Worker,
    #[serde(skip_serializing)]
    credentials: BTreeMap<String, CredentialConfig>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Worker {
    node: String,
    zone: Option<String>,
    dirs: Vec<String>,
    #[serde(with = "crate::units::bytes")]
    size: u64,
    #[serde(with = "crate::units::duration")]
    heartbeat: Duration,
    #[serde(with = "crate::units::duration_or_never")]
    sync_interval: Option<Duration>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            node: "n".to_owned(),
            zone: None,
            dirs: vec!["/cache".to_owned()],
            size: 64 << 30,
            heartbeat: Duration::from_secs(3),
            sync_interval: None,
        }
    }
}

fn defaults() -> Layers {
    Layers::new(&Settings::default()).expect("defaults")
}

fn with_file(text: &str) -> (tempfile::NamedTempFile, Result<Layers, ConfigError>) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    let layers = defaults().file(file.path());
    (file, layers)
}

fn env(name: &str, value: &str) -> [(String, String); 1] {
    [(name.to_owned(), value.to_owned())]
}

fn setting<T>(loaded: &Loaded<T>, key: &str) -> (serde_json::Value, Origin) {
    let setting = loaded.settings.iter().find(|setting| setting.key == key).expect("the key is shown");
    (setting.value.clone(), setting.origin.clone())
}

#[test]
fn later_layers_win_and_every_value_knows_its_origin() {
    let (file, layers) = with_file("[worker]\nnode = 'file'\nzone = 'a'\nsize = '1 GiB'\nheartbeat = '1m'");
    let layers = layers.expect("valid").environment(env("HEADPOND_WORKER__ZONE", "b"));
    let layers = layers.environment(env("HEADPOND_WORKER__SIZE", "2GiB")).flag("--size", "worker.size", &"3 GiB");
    let loaded = layers.expect("a flag").load::<Settings>().expect("valid");

    let worker = &loaded.value.worker;
    assert_eq!((worker.node.as_str(), worker.zone.as_deref(), worker.size), ("file", Some("b"), 3 << 30));
    assert_eq!((worker.heartbeat, worker.sync_interval), (Duration::from_secs(60), None));
    assert_eq!(setting(&loaded, "worker.node"), ("file".into(), Origin::File(file.path().to_owned())));
    let zone = Origin::Environment("HEADPOND_WORKER__ZONE".to_owned());
    assert_eq!(setting(&loaded, "worker.zone"), ("b".into(), zone));
    assert_eq!(setting(&loaded, "worker.size"), ("3 GiB".into(), Origin::Flag("--size".to_owned())));
    assert_eq!(setting(&loaded, "worker.sync_interval"), ("never".into(), Origin::Default));
    assert_eq!(setting(&loaded, "worker.dirs"), (serde_json::json!(["/cache"]), Origin::Default));
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_near_matches() {
    let (file, layers) = with_file("[worker]\nheartbeet = '1s'");
    let error = layers.expect("valid").load::<Settings>().expect_err("unknown").to_string();
    let place = format!("unknown setting `worker.heartbeet` (file {})", file.path().display());
    assert!(error.starts_with(&place) && error.ends_with("did you mean `heartbeat`?"), "{error}");

    let layers = defaults().environment(env("HEADPOND_WORKR__NODE", "x"));
    let error = layers.load::<Settings>().expect_err("unknown").to_string();
    assert_eq!(error, "unknown setting `workr` (environment HEADPOND_WORKR__NODE): did you mean `worker`?");

    let layers = defaults().environment(env("HEADPOND_WORKER__XYZZY", "x"));
    let error = layers.load::<Settings>().expect_err("unknown").to_string();
    assert!(error.contains("known here are `node`, `zone`"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_its_place() {
    for (text, message) in [
        ("heartbeat = 7", "expected a duration such as \"30s\""),
        ("heartbeat = '7 moons'", "\"7 moons\" is not a duration"),
        ("size = '7 moons'", "\"7 moons\" is not a size"),
        ("dirs = 1", "expected a sequence"),
    ] {
        let (file, layers) = with_file(&format!("[worker]\n{text}"));
        let error = layers.expect("valid").load::<Settings>().expect_err("wrong").to_string();
        let key = text.split(' ').next().expect("a key");
        let place = format!("setting `worker.{key}` (file {})", file.path().display());
        assert!(error.starts_with(&place) && error.contains(message), "{error}");
    }
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let (file, layers) = with_file("[worker]\nnode = 'a\n");
    let error = layers.expect_err("not TOML").to_string();
    assert!(error.starts_with(&format!("{} is not valid TOML at line 2", file.path().display())), "{error}");
    assert!(!error.contains('\n'), "{error}");
    let error = defaults().file("/nowhere/at/all".as_ref()).expect_err("absent").to_string();
    assert_eq!(error, "cannot read the configuration file /nowhere/at/all");
}

#[test]
fn variables_of_the_environment_are_toml_or_text() {
    let variables = [
        ("HEADPOND_WORKER__DIRS", "['/a', '/b']"),
        ("HEADPOND_WORKER__NODE", "17"),
        ("HEADPOND_CREDENTIALS__MINIO__ACCESS_KEY_ID", "123"),
        ("HEADPOND_CREDENTIALS__MINIO__SECRET_ACCESS_KEY", "456"),
        ("HEADPOND_MASTER", "not a setting"),
        ("PATH", "not a setting"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let loaded = defaults().environment(variables).load::<Settings>().expect("valid");
    assert_eq!(loaded.value.worker.dirs, ["/a", "/b"]);
    assert_eq!(loaded.value.worker.node, "17");
    let credentials = loaded.value.credentials["minio"].resolve("minio").expect("complete");
    assert_eq!(credentials.secret_access_key.reveal(), "456");
    assert_eq!(setting(&loaded, "credentials.minio.secret_access_key").0, "[redacted]");
    assert!(!format!("{loaded:?}").contains("456"));
}

#[test]
fn an_error_never_repeats_a_secret() {
    let (_file, layers) = with_file("[credentials.x]\naccess_key_id = 'a'\nsecret_access_key = 4711");
    let error = layers.expect("valid").load::<Settings>().expect_err("not text").to_string();
    assert!(error.contains("credentials.x.secret_access_key") && !error.contains("4711"), "{error}");
}
