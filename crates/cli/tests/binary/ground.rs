//! A directory of its own and free ports for one run of the binary.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context as _, Result};
use headpond_tests::{Process, free_port, wait_ready};
use serde_json::Value;
use tempfile::TempDir;

/// Where the binary runs. What it started is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) process: Option<Process>,
    pub(crate) master_port: u16,
    pub(crate) worker_port: u16,
    pub(crate) http_port: u16,
    root: TempDir,
}

impl Ground {
    pub(crate) fn new() -> Result<Self> {
        let root = tempfile::Builder::new().prefix("headpond-test-").tempdir()?;
        Ok(Self { process: None, master_port: free_port()?, worker_port: free_port()?, http_port: free_port()?, root })
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(crate) fn write(&self, below: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(below);
        fs::create_dir_all(path.parent().context("has a parent")?)?;
        Ok(fs::write(path, bytes)?)
    }

    /// The binary in this directory, with nothing configured from outside.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headpond"));
        let foreign = std::env::vars_os().map(|(name, _)| name);
        for name in foreign.filter(|name| name.as_encoded_bytes().starts_with(b"HEADPOND_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.root.path()).env("HEADPOND_MASTER", self.master());
        command
    }

    pub(crate) fn master(&self) -> String {
        format!("127.0.0.1:{}", self.master_port)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().with_context(|| format!("cannot run headpond {arguments:?}"))
    }

    /// `headpond up` on the free ports.
    pub(crate) fn up_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["up"]);
        for (flag, port) in
            [("--master-bind", self.master_port), ("--worker-bind", self.worker_port), ("--http-bind", self.http_port)]
        {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        command.args(arguments);
        command
    }

    /// Starts `headpond up` and waits until it is ready.
    pub(crate) fn up(&mut self, arguments: &[&str]) -> Result<&mut Process> {
        let process = Process::start("headpond up", self.up_command(arguments), &self.path("headpond.log"))?;
        let process = self.process.insert(process);
        wait_ready(process, self.http_port, "/readyz")?;
        Ok(process)
    }

    /// Everything that lies here, by path.
    pub(crate) fn inventory(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        collect(self.root.path(), &mut found)?;
        Ok(found)
    }
}

fn collect(dir: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        }
        found.insert(path);
    }
    Ok(())
}

/// What was printed on stderr.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What was printed on stdout.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a run that succeeds prints.
pub(crate) fn text(ground: &Ground, arguments: &[&str]) -> Result<String> {
    let output = ground.run(arguments)?;
    anyhow::ensure!(output.status.success(), "headpond {arguments:?}: {}", stderr(&output));
    Ok(stdout(&output))
}

/// The same of a run with `-o json`, line by line.
pub(crate) fn json(ground: &Ground, arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments = [arguments, &["-o", "json"]].concat();
    text(ground, &arguments)?.lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
}
