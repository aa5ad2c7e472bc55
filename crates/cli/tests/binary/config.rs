//! `headpond config show` and what needs no cluster.

use anyhow::Result;

use crate::ground::{Ground, stdout};

#[test]
fn every_setting_is_shown_with_its_origin_and_secrets_are_not() -> Result<()> {
    let ground = Ground::new()?;
    ground.write("c.toml", "[worker]\nnode = 'from-file'\nzone = 'z'\n[credentials.lake]\naccess_key_id = 'me'\nsecret_access_key = 'hunter2'")?;
    let mut command = ground.command(&["config", "show", "-o", "json", "-c", "c.toml", "--log-level", "debug"]);
    command.env("HEADPOND_WORKER__ZONE", "from-env").env("HEADPOND_CREDENTIALS__LAKE__SESSION_TOKEN", "hunter3");
    let output = command.output()?;
    assert!(output.status.success());
    let text = stdout(&output);
    assert!(!text.contains("hunter"), "{text}");
    let settings: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    for (key, value, from) in [
        ("worker.node", "from-file", "file c.toml"),
        ("worker.zone", "from-env", "environment HEADPOND_WORKER__ZONE"),
        ("log.level", "debug", "flag --log-level"),
        ("log.format", "text", "default"),
        ("credentials.lake.access_key_id", "me", "file c.toml"),
        ("credentials.lake.secret_access_key", "[redacted]", "file c.toml"),
        ("credentials.lake.session_token", "[redacted]", "environment HEADPOND_CREDENTIALS__LAKE__SESSION_TOKEN"),
    ] {
        let expected = serde_json::json!({ "key": key, "value": value, "origin": from });
        assert!(settings.contains(&expected), "{expected} is not in {text}");
    }
    Ok(())
}

#[test]
fn the_masters_of_the_environment_are_shown_as_they_are_used() -> Result<()> {
    let ground = Ground::new()?;
    ground.write("c.toml", "[client]\nmasters = ['from-file:1']")?;
    let shown = |role: &str| -> Result<String> {
        let mut show = ground.command(&["config", "show", "-c", "c.toml", "--for", role]);
        let text = stdout(&show.env("HEADPOND_MASTER", "one:1,two:2").output()?);
        let line = text.lines().find(|line| line.starts_with("client.masters ")).unwrap_or_default();
        Ok(line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
    };
    for role in ["command", "mount"] {
        assert_eq!(shown(role)?, r#"["one:1","two:2"] environment HEADPOND_MASTER"#, "{role}");
    }
    assert_eq!(shown("worker")?, r#"["from-file:1"] file c.toml"#, "it has masters of its own");
    Ok(())
}

#[test]
fn exit_codes_are_told_to_programs() -> Result<()> {
    let ground = Ground::new()?;
    let told = crate::ground::json(&ground, &["exit-codes"])?;
    assert_eq!(told[0], serde_json::json!({"code": 0, "meaning": "it is done"}));
    let codes: Vec<_> = told.iter().filter_map(|line| line["code"].as_u64()).collect();
    assert_eq!(codes, (0..=20).chain([70]).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_table_is_shown_to_people() -> Result<()> {
    let ground = Ground::new()?;
    let text = stdout(&ground.run(&["config", "show", "--for", "worker"])?);
    let line = text.lines().find(|line| line.starts_with("http.bind ")).unwrap_or_default();
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["http.bind", "127.0.0.1:7210", "default"]);
    Ok(())
}

#[test]
fn what_up_runs_with_is_shown() -> Result<()> {
    let ground = Ground::new()?;
    let text = stdout(&ground.run(&["config", "show", "--for", "up", "-o", "json"])?);
    let settings: Vec<serde_json::Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let value = |key: &str| settings.iter().find(|setting| setting["key"] == key).map(|setting| &setting["value"]);
    let here = |below: &str| serde_json::Value::from(ground.path(below).display().to_string());
    for (key, expected) in [
        ("master.state_dir", here(".headpond/master")),
        ("worker.socket", here(".headpond/worker.sock")),
        ("mount.mountpoint", here("pond")),
        ("mount.max_ttl", "30s".into()),
    ] {
        assert_eq!(value(key), Some(&expected), "{key} in {text}");
    }
    assert_eq!(value("worker.dirs").map(|dirs| &dirs[0]["path"]), Some(&here(".headpond/worker/cache")), "{text}");
    Ok(())
}

#[test]
fn help_version_codes_and_completion_are_there() -> Result<()> {
    let ground = Ground::new()?;
    for (arguments, says) in [
        (&["--version"][..], env!("CARGO_PKG_VERSION")),
        (&["--help"], "headpond up"),
        (&["help", "exit-codes"], "the under store refuses"),
        (&["exit-codes"], "the under store refuses"),
        (&["completion", "bash"], "_headpond()"),
        (&["completion", "zsh"], "#compdef headpond"),
        (&["completion", "fish"], "complete -c headpond"),
        (&["up", "--help"], "Ctrl-C unmounts and ends"),
    ] {
        let output = ground.run(arguments)?;
        assert!(output.status.success() && stdout(&output).contains(says), "{arguments:?}: {}", stdout(&output));
    }
    Ok(())
}
