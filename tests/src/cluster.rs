//! Master, workers and mounts as processes of their own.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{Command, Minio, Mounted, Part, eventually, free_port, headpond_binary, new_folder};

/// A cluster over one bucket, which the namespace's root shows. Worker `n` and mount `n` are on node `node-n`.
///
/// Its deadlines are shorter than the defaults, so that tests see them pass: a request through a mount is answered within
/// [`Cluster::DEADLINE`].
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the processes, then what is left of their mounts, then the folder.
    /// The master.
    pub master: Part,
    /// The workers.
    pub workers: Vec<Part>,
    /// The mounts.
    pub mounts: Vec<Part>,
    mountpoints: Vec<Mounted>,
    master_port: u16,
    builder: ClusterBuilder,
    folder: TempDir,
}

/// Name of the file with the store's secret, in the cluster's folder.
const SECRET: &str = "secret";

/// What the parts are told beside where they are.
const MASTER: &str = "[master]\nheartbeat = '100ms'\nworker_lost_after = '1s'\nstore_deadline = '3s'\n";
const WORKER: &str =
    "[worker.deadlines]\nconnect = '1s'\nmaster = '3s'\npeer = '2s'\nunder_store = '3s'\nread = '4s'\n";
const CLIENT: &str = "[client]\nconnect_timeout = '1s'\nmetadata_timeout = '3s'\nread_timeout = '5s'\n";

/// How to start a [`Cluster`].
#[derive(Debug)]
pub struct ClusterBuilder {
    uri: String,
    endpoint: String,
    workers: usize,
    environment: Vec<(String, String)>,
    wrapper: Vec<OsString>,
    cache_dir: Option<PathBuf>,
    store: Vec<String>,
    capacity: String,
}

impl ClusterBuilder {
    /// So many workers instead of one.
    #[must_use]
    pub const fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Sets an environment variable of all parts and commands.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Puts the cache of the first worker there.
    #[must_use]
    pub fn cache_dir(mut self, path: &Path) -> Self {
        self.cache_dir = Some(path.to_owned());
        self
    }

    /// What each worker's cache may take, such as `100MiB`.
    #[must_use]
    pub fn capacity(mut self, capacity: &str) -> Self {
        capacity.clone_into(&mut self.capacity);
        self
    }

    /// Adds arguments with which the root's store is shown.
    #[must_use]
    pub fn store(mut self, arguments: &[&str]) -> Self {
        self.store.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Runs workers through another program, which is to execute its last arguments.
    #[must_use]
    pub fn worker_wrapper(mut self, program: &[&str]) -> Self {
        self.wrapper = program.iter().map(OsString::from).collect();
        self
    }

    /// Starts it, with one mount on `node-0`.
    ///
    /// # Errors
    /// A part does not become ready.
    pub fn start(self) -> Result<Cluster> {
        let folder = new_folder()?;
        let master_port = free_port()?;
        std::fs::write(folder.path().join(SECRET), Minio::SECRET_KEY)?;
        let state = folder.path().join("master");
        let configuration = format!("{}{MASTER}state_dir = {state:?}\n", credentials(folder.path()));
        let mut master = Part::new("master", "master", folder.path(), &configuration)?;
        master.arg("--bind").arg(format!("127.0.0.1:{master_port}"));
        for (key, value) in &self.environment {
            master.env(key, value);
        }
        master.launch()?;
        let mut cluster = Cluster {
            master,
            workers: Vec::new(),
            mounts: Vec::new(),
            mountpoints: Vec::new(),
            master_port,
            builder: self,
            folder,
        };
        for number in 0..cluster.builder.workers {
            cluster.add_worker(number)?;
        }
        cluster.wait_workers(cluster.builder.workers)?;
        let ClusterBuilder { uri, endpoint, store, .. } = &cluster.builder;
        let store: Vec<_> = store.iter().map(String::as_str).collect();
        cluster.add_store_with("/", uri, endpoint, Cluster::CREDENTIALS, &store)?;
        cluster.mount(0)?;
        Ok(cluster)
    }
}

impl Cluster {
    /// How long a request through one of its mounts may take.
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// Name of the credentials that all parts know.
    pub const CREDENTIALS: &str = "lake";

    /// A cluster of one worker and one mount over `uri` at `endpoint`.
    #[must_use]
    pub fn over(uri: &str, endpoint: &str) -> ClusterBuilder {
        ClusterBuilder {
            uri: uri.to_owned(),
            endpoint: endpoint.to_owned(),
            workers: 1,
            environment: Vec::new(),
            wrapper: Vec::new(),
            cache_dir: None,
            store: Vec::new(),
            capacity: "1GiB".to_owned(),
        }
    }

    /// Shows a store at a path of the namespace.
    ///
    /// # Errors
    /// The command fails; the message holds what it said.
    pub fn add_store(&self, path: &str, uri: &str, endpoint: &str, credentials: &str) -> Result<()> {
        self.add_store_with(path, uri, endpoint, credentials, &[])
    }

    /// As [`Cluster::add_store`], with further arguments.
    ///
    /// # Errors
    /// Those of [`Cluster::add_store`].
    pub fn add_store_with(
        &self,
        path: &str,
        uri: &str,
        endpoint: &str,
        credentials: &str,
        more: &[&str],
    ) -> Result<()> {
        let endpoint = format!("endpoint={endpoint}");
        let credentials = format!("credentials={credentials}");
        let options = [&endpoint, "region=us-east-1", "path_style=true", &credentials];
        let mut arguments: Vec<_> = options.iter().flat_map(|option| ["--option", option]).collect();
        if !more.contains(&"--sync-interval") {
            arguments.extend(["--sync-interval", "1s"]);
        }
        arguments.extend(more);
        self.add_mount(path, uri, &arguments)
    }

    /// Shows a local directory at a path of the namespace, with further arguments.
    ///
    /// # Errors
    /// Those of [`Cluster::add_store`].
    pub fn add_directory(&self, path: &str, directory: &Path, more: &[&str]) -> Result<()> {
        self.add_mount(path, &format!("file://{}", directory.display()), more)
    }

    /// What is shown belongs to the user who runs the tests, as `headpond up` has it.
    fn add_mount(&self, path: &str, uri: &str, more: &[&str]) -> Result<()> {
        let (uid, gid) = (rustix::process::geteuid().to_string(), rustix::process::getegid().to_string());
        let arguments = ["admin", "mount", "add", path, uri, "--uid", &uid, "--gid", &gid];
        self.run_ok(&[&arguments[..], more].concat()).map(drop)
    }

    fn add_worker(&mut self, number: usize) -> Result<()> {
        let name = format!("worker-{number}");
        let configuration = format!("{}{WORKER}", credentials(self.folder.path()));
        let mut worker = Part::new(&name, "worker", self.folder.path(), &configuration)?;
        worker.wrap(&self.builder.wrapper);
        worker.arg("--dir").arg(format!("{}={}", self.cache_dir(number).display(), self.builder.capacity));
        worker.arg("--bind").arg(format!("127.0.0.1:{}", free_port()?));
        worker.arg("--socket").arg(self.folder.path().join(format!("{name}.sock")));
        worker.env("HEADPOND_WORKER__NODE", format!("node-{number}"));
        worker.env("HEADPOND_WORKER__MASTERS", format!("[{:?}]", self.master()));
        for (key, value) in &self.builder.environment {
            worker.env(key, value);
        }
        worker.launch()?;
        self.workers.push(worker);
        Ok(())
    }

    /// Adds a mount on the node of worker `node`, or on one without a worker; answers its number.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn mount(&mut self, node: usize) -> Result<usize> {
        self.mount_with(node, &[])
    }

    /// As [`Cluster::mount`], with further arguments.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn mount_with(&mut self, node: usize, arguments: &[&str]) -> Result<usize> {
        let number = self.mounts.len();
        let name = format!("mount-{number}");
        let mounted = Mounted::at(self.folder.path().join(&name))?;
        let configuration = format!("[mount]\nrequest_timeout = '{}s'\n{CLIENT}", Self::DEADLINE.as_secs());
        let mut mount = Part::new(&name, "mount", self.folder.path(), &configuration)?;
        mount.arg(mounted.path()).arg("--master").arg(self.master());
        for argument in arguments {
            mount.arg(argument);
        }
        mount.env("HEADPOND_CLIENT__NODE", format!("node-{node}"));
        for (key, value) in &self.builder.environment {
            mount.env(key, value);
        }
        self.mountpoints.push(mounted);
        self.mounts.push(mount);
        self.mounts[number].launch()?;
        Ok(number)
    }

    /// Waits until the master has so many workers in the ring.
    ///
    /// # Errors
    /// It does not within a minute.
    pub fn wait_workers(&self, count: usize) -> Result<()> {
        let expected = f64::from(u32::try_from(count)?);
        eventually(&format!("{count} workers are in the ring"), || {
            Ok((self.master.metric("headpond_master_workers", "")? - expected).abs() < 0.5)
        })
    }

    /// Waits until mount `number`, which shows something in `dir`, is in session with the master: it says what there is not.
    ///
    /// # Errors
    /// It is not within a minute.
    pub fn wait_session(&self, number: usize, dir: &str) -> Result<()> {
        let dir = self.path(number, dir);
        eventually("the mount is in session", || {
            let absent = std::fs::metadata(dir.join("never-asked-for"));
            Ok(dir.is_dir() && absent.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound))
        })
    }

    /// A path below mount `number`.
    #[must_use]
    pub fn path(&self, number: usize, below: &str) -> PathBuf {
        self.mountpoints[number].path().join(below)
    }

    /// Mount point `number`.
    #[must_use]
    pub fn mountpoint(&self, number: usize) -> &Mounted {
        &self.mountpoints[number]
    }

    /// Cache directory of worker `number`.
    #[must_use]
    pub fn cache_dir(&self, number: usize) -> PathBuf {
        let chosen = self.builder.cache_dir.as_ref().filter(|_| number == 0);
        chosen.cloned().unwrap_or_else(|| self.folder.path().join(format!("cache-{number}")))
    }

    /// Where configuration, state and logs of all parts are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `host:port` of the master.
    #[must_use]
    pub fn master(&self) -> String {
        format!("127.0.0.1:{}", self.master_port)
    }

    /// Runs a command against the cluster, from a node without a worker.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments)?.output().with_context(|| format!("cannot run headpond {arguments:?}"))
    }

    /// A command against the cluster that is not run yet, from a node without a worker.
    ///
    /// # Errors
    /// There is no binary.
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(headpond_binary()?);
        command.args(arguments).env("HEADPOND_MASTER", self.master()).env("HEADPOND_CLIENT__NODE", "nowhere");
        command.env("HEADPOND_CLIENT__READ_TIMEOUT", "5s");
        command.envs(self.builder.environment.iter().map(|(key, value)| (key, value)));
        Ok(command)
    }

    /// Runs a command, which must succeed, and answers what it prints.
    ///
    /// # Errors
    /// It fails; the message holds what it said.
    pub fn run_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "headpond {arguments:?} ended with {}: {errors}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The number of the worker that owns the first block of the file at `path`.
    ///
    /// # Errors
    /// There is no such file, or no worker.
    pub fn owner(&self, path: &str) -> Result<usize> {
        let located: serde_json::Value = serde_json::from_str(&self.run_ok(&["fs", "location", path, "-o", "json"])?)?;
        let owner = located["blocks"][0]["owner"].as_u64().context("no owner")?;
        let mut workers = located["workers"].as_array().context("no workers")?.iter();
        let worker = workers.find(|worker| worker["worker"].as_u64() == Some(owner)).context("an unknown owner")?;
        let node = worker["node"].as_str().context("no node")?;
        Ok(node.trim_start_matches("node-").parse()?)
    }
}

fn credentials(folder: &Path) -> String {
    format!(
        "[credentials.{}]\naccess_key_id = {:?}\nsecret_access_key_file = {:?}\n",
        Cluster::CREDENTIALS,
        Minio::ACCESS_KEY,
        folder.join(SECRET)
    )
}
