//! `headpond up` from its start to its end.

use anyhow::{Context as _, Result};
use headpond_tests::{Process, eventually, http_get, run_as};
use rustix::process::Signal;

use crate::ground::{Ground, stderr, stdout};

#[test]
fn without_arguments_there_is_a_lake_with_a_line_to_read() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.up(&["--no-mount"])?;
    let listed = ground.run(&["fs", "ls", "/"])?;
    assert_eq!(stdout(&listed), "README.txt\n", "{}", stderr(&listed));
    let read = ground.run(&["fs", "cat", "/README.txt"])?;
    assert_eq!(stdout(&read), std::fs::read_to_string(ground.path("lake/README.txt"))?);
    let (status, metrics) = http_get(ground.http_port, "/metrics")?;
    assert_eq!(status, 200);
    assert!(metrics.contains("headpond_worker_"), "{metrics}");
    let log = std::fs::read_to_string(ground.path("headpond.log"))?;
    for line in ["headpond is up", "/lake", "headpond fs ls -l / --master", "Ctrl-C ends."] {
        assert!(log.contains(line), "{line:?} is not in:\n{log}");
    }
    Ok(())
}

#[test]
fn a_first_signal_ends_it_cleanly_and_the_next_start_finds_everything() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    let data = ground.path("data").display().to_string();
    for signal in [Signal::INT, Signal::TERM] {
        let process = ground.up(&[&data, "--no-mount"])?;
        process.signal(signal)?;
        let status = process.wait()?;
        assert!(status.success() && process.output().contains("headpond: ended cleanly"), "{}", process.output());
    }
    ground.up(&[&data, "--no-mount"])?;
    let mounts = stdout(&ground.run(&["admin", "mounts", "-o", "json"])?);
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    Ok(())
}

#[test]
fn another_store_takes_the_place_of_the_first() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("one/a", "1")?;
    ground.write("two/b", "2")?;
    for (store, listed) in [("one", "a\n"), ("two", "b\n")] {
        let store = ground.path(store).display().to_string();
        ground.up(&[&store, "--no-mount"])?;
        assert_eq!(stdout(&ground.run(&["fs", "ls", "/"])?), listed);
        ground.process = None;
    }
    Ok(())
}

#[test]
fn a_deep_state_directory_is_no_obstacle() -> Result<()> {
    let mut ground = Ground::new()?;
    let deep = ["d".repeat(90), "e".repeat(90)].join("/");
    ground.up(&["--no-mount", "--state-dir", &deep])?;
    let workers = stdout(&ground.run(&["admin", "workers", "-o", "json"])?);
    let worker: serde_json::Value = serde_json::from_str(&workers)?;
    let socket = worker["socket"].as_str().unwrap_or_default().to_owned();
    assert!(!socket.is_empty() && socket.len() <= 107, "{workers}");
    assert!(ground.run(&["fs", "cat", "/README.txt"])?.status.success());
    Ok(())
}

#[test]
fn the_banner_names_the_ports_that_the_system_chose() -> Result<()> {
    let ground = Ground::new()?;
    let any = "127.0.0.1:0";
    let command = ground.command(&["up", "--no-mount", "--master-bind", any, "--worker-bind", any, "--http-bind", any]);
    let process = Process::start("headpond up", command, &ground.path("headpond.log"))?;
    eventually("the banner is there", || Ok(process.output().contains("Ctrl-C ends.")))?;
    let banner = process.output();
    assert!(!banner.contains(":0 ") && !banner.contains(":0\n"), "{banner}");
    let row = |name: &str| banner.lines().find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next());
    let master = row("master").context("a row for the master")?;
    assert!(ground.run(&["fs", "ls", "/", "--master", master])?.status.success(), "{banner}");
    let metrics = row("metrics").and_then(|url| url.rsplit(':').next()?.parse().ok()).context("a port")?;
    assert_eq!(http_get(metrics, "/healthz")?.0, 200);
    Ok(())
}

/// Where the cache lies on overlayfs, as in a container, the kernel passes files through only if the mount was told.
#[test]
fn a_cache_on_overlayfs_is_passed_through_as_well() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    let (lake, pond) = (ground.path("data").display().to_string(), ground.path("pond").display().to_string());
    let overlay = rustix::process::geteuid().is_root().then(|| Overlay::mount(&ground)).transpose()?;
    let state = ground.path("overlay/state").display().to_string();
    ground.up(&[&lake, &pond, "--state-dir", &state])?;
    assert_eq!(std::fs::read_to_string(ground.path("pond/a"))?, "one");
    let (_, metrics) = http_get(ground.http_port, "/metrics")?;
    let kind = if overlay.is_some() {
        run_as("a cache on overlayfs", "root: passed through by the kernel");
        "passthrough"
    } else {
        run_as(
            "a cache on overlayfs",
            "an ordinary user: not on overlayfs, which he cannot mount, and answered by the daemon",
        );
        "cached"
    };
    assert!(metrics.contains(&format!("headpond_fuse_opens_total{{kind=\"{kind}\"}} 1")), "{metrics}");
    ground.process.as_mut().context("runs")?.interrupt()?;
    Ok(())
}

/// An overlayfs; unmounted when dropped.
struct Overlay(std::path::PathBuf);

impl Overlay {
    fn mount(ground: &Ground) -> Result<Self> {
        let [lower, upper, work, at] = ["lower", "upper", "work", "overlay"].map(|name| ground.path(name));
        for dir in [&lower, &upper, &work, &at] {
            std::fs::create_dir(dir)?;
        }
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let status =
            std::process::Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&at).status()?;
        anyhow::ensure!(status.success(), "cannot mount an overlayfs at {}", at.display());
        Ok(Self(at))
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _unmounted = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn logs_are_json_where_that_is_asked_for() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.up(&["--no-mount", "--log-level", "info", "--log-format", "json"])?.interrupt()?;
    let log = std::fs::read_to_string(ground.path("headpond.log"))?;
    let events: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.starts_with('{') || line.contains("INFO"))
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    assert!(events.iter().any(|event| event["level"] == "INFO" && event["message"].is_string()), "{log}");
    Ok(())
}

#[test]
fn the_parts_run_as_processes_of_their_own() -> Result<()> {
    let mut ground = Ground::new()?;
    ground.write("data/a", "one")?;
    let master = ground.command(&["master", "--bind", &ground.master(), "--state-dir", "m", "--http-bind", ""]);
    let mut master = Process::start("master", master, &ground.path("master.log"))?;
    let bind = format!("127.0.0.1:{}", ground.worker_port);
    let http = format!("127.0.0.1:{}", ground.http_port);
    let arguments =
        ["worker", "--dir", "cache=1GiB", "--bind", &bind, "--http-bind", &http, "--master", &ground.master()];
    let worker = ground.command(&arguments);
    let worker = Process::start("worker", worker, &ground.path("worker.log"))?;
    headpond_tests::wait_ready(ground.process.insert(worker), ground.http_port, "/readyz")?;

    let store = format!("file://{}", ground.path("data").display());
    let added = ground.run(&["admin", "mount", "add", "/data", &store])?;
    assert!(added.status.success(), "{}", stderr(&added));
    assert_eq!(stdout(&ground.run(&["fs", "cat", "/data/a"])?), "one");
    let again = ground.run(&["admin", "mount", "add", "/data", &store])?;
    assert_eq!(again.status.code(), Some(4), "{}", stderr(&again));
    let workers = stdout(&ground.run(&["admin", "workers", "-o", "json"])?);
    let socket = ground.path("cache/worker.sock").display().to_string();
    assert!(workers.contains(&format!("\"socket\":\"{socket}\"")), "{workers}");
    let removed = ground.run(&["admin", "mount", "remove", "/data", "-o", "json"])?;
    assert_eq!(stdout(&removed), "{\"path\":\"/data\"}\n", "{}", stderr(&removed));
    assert_eq!(ground.run(&["fs", "ls", "/data"])?.status.code(), Some(3));

    master.kill()?;
    eventually("the worker notices that the master is gone", || Ok(http_get(ground.http_port, "/readyz")?.0 == 503))?;
    assert_eq!(http_get(ground.http_port, "/healthz")?.0, 200);
    Ok(())
}
