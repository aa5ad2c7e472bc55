//! One process of a cluster: a master, a worker or a mount.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{Command, Process, free_port, headpond_binary, metric, wait_ready};

/// A process of Headpond that is started, killed and started again on the same state and ports. It is configured in all three
/// ways: a file, the environment and flags.
#[derive(Debug)]
pub struct Part {
    process: Option<Process>,
    name: String,
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    folder: PathBuf,
    http_port: u16,
}

impl Part {
    /// `headpond COMMAND` with its configuration file and log in `folder`. Not started.
    ///
    /// # Errors
    /// The file cannot be written, or no port is free.
    pub fn new(name: &str, command: &str, folder: &Path, configuration: &str) -> Result<Self> {
        let file = folder.join(format!("{name}.toml"));
        std::fs::write(&file, configuration)?;
        let http_port = free_port()?;
        let mut part = Self {
            process: None,
            name: name.to_owned(),
            wrapper: Vec::new(),
            arguments: vec![command.into()],
            environment: Vec::new(),
            folder: folder.to_owned(),
            http_port,
        };
        part.arg("--config").arg(file).arg("--http-bind").arg(format!("127.0.0.1:{http_port}"));
        Ok(part)
    }

    /// Adds an argument, from the next start on.
    pub fn arg(&mut self, argument: impl Into<OsString>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable, from the next start on.
    pub fn env(&mut self, key: &str, value: impl Into<OsString>) -> &mut Self {
        self.environment.retain(|(other, _)| other != key);
        self.environment.push((key.to_owned(), value.into()));
        self
    }

    /// Runs it through another program, which is to execute its last arguments.
    pub fn wrap(&mut self, program: &[OsString]) -> &mut Self {
        self.wrapper = program.to_vec();
        self
    }

    /// Starts it (again); what ran before is killed.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.process = None;
        let mut line = self.wrapper.clone();
        line.push(headpond_binary()?.into());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).current_dir(&self.folder).args(&self.arguments).envs(self.environment.iter().cloned());
        self.process = Some(Process::start(&format!("headpond {}", self.name), &command, &self.log())?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready within a minute.
    pub fn wait_ready(&mut self) -> Result<()> {
        let port = self.http_port;
        wait_ready(self.process()?, port, "/readyz")
    }

    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready within a minute.
    pub fn launch(&mut self) -> Result<()> {
        self.start()?;
        self.wait_ready()
    }

    /// The running process.
    ///
    /// # Errors
    /// It was stopped, or never started.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} does not run", self.name))
    }

    /// The id of the running process.
    ///
    /// # Errors
    /// As of [`Part::process`].
    pub fn id(&mut self) -> Result<u32> {
        Ok(self.process()?.id())
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()
    }

    /// Ends it with SIGINT and checks that it ends cleanly.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(&mut self) -> Result<()> {
        let status = self.process()?.interrupt()?;
        ensure!(status.success(), "headpond {} ended with {status}:\n{}", self.name, self.output());
        self.process = None;
        Ok(())
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// HTTP port of metrics and health.
    #[must_use]
    pub const fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The sum of a metric's series whose labels contain `label`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metric(&self, name: &str, label: &str) -> Result<f64> {
        metric(self.http_port, name, label)
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}
