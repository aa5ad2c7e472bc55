//! A client's session for the length of one command.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use futures::StreamExt as _;
use headpond_client::{Client, ListEntry, ListOptions};
use headpond_runtime::{Shutdown, Tasks, telemetry};
use headpond_types::{Attr, Error, ErrorKind, NsPath};

use crate::{
    args::{ProcessArgs, TlsArgs},
    failure::{self, Failure, Result, remark},
    output::{Format, Output},
    settings::{self, Role, Settings},
};

/// How long the session may take to end; nothing of value is lost if it does not.
const GRACE: Duration = Duration::from_secs(1);

/// What all commands that speak to a cluster take.
#[derive(Clone, Debug, Args)]
pub(crate) struct SessionArgs {
    /// Masters as HOST:PORT, separated by commas. Default: the environment's HEADPOND_MASTER, the setting client.masters, 127.0.0.1:7100.
    #[arg(long, help_heading = "Common options", global = true, value_name = "HOST:PORT", value_delimiter = ',')]
    master: Option<Vec<String>>,
    /// How to print: text for people, json for programs (an object per line).
    #[arg(short, long, help_heading = "Common options", global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Configuration file (TOML). Default: /etc/headpond/headpond.toml, if there is one.
    #[arg(
        long,
        help_heading = "Common options",
        global = true,
        value_name = "FILE",
        env = "HEADPOND_CONFIG",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// Log what happens to stderr: error, warn, info, debug or trace. Default: nothing.
    #[arg(long, help_heading = "Common options", global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    #[command(flatten)]
    tls: TlsArgs,
}

/// A connected client and where output goes.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) out: Output,
}

/// Runs `command` with a session.
pub(crate) fn run(args: &SessionArgs, command: impl AsyncFnOnce(&mut Session) -> Result<()>) -> Result<()> {
    failure::speak(args.output);
    let (config, log_level) = (args.config.clone(), args.log_level.clone());
    let process = ProcessArgs { config, log_level, log_format: None, tls: args.tls.clone() };
    let layers = settings::layers(&Settings::of(Role::Command), &process)?;
    let settings = Settings::load(&settings::masters(layers, args.master.as_ref())?)?;
    if args.log_level.is_some() {
        telemetry::init(&settings.log)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(ErrorKind::Internal, "cannot start").with_source(error))?;
    runtime.block_on(async {
        let tasks = Tasks::new(Shutdown::new());
        let mut config = settings.client;
        config.name = "cli".to_owned();
        let client = Client::connect(config, tasks.clone())?;
        let mut session = Session { client, out: Output::new(args.output) };
        let ended = command(&mut session).await;
        let flushed = session.out.flush();
        drop(session);
        tasks.drain(GRACE).await;
        ended?;
        flushed
    })
}

impl Session {
    /// What is at `path`.
    ///
    /// # Errors
    /// `NotFound` when there is nothing.
    pub(crate) async fn stat(&self, path: &NsPath) -> Result<Arc<Attr>, Error> {
        let found = self.client.resolve(path).await?;
        found.attr.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{path} does not exist")))
    }

    /// Hands the entries of the directory `path` to `each` as they arrive, and remarks on keys that had to be left out.
    pub(crate) async fn list(
        &mut self,
        path: &NsPath,
        options: ListOptions,
        mut each: impl FnMut(&mut Output, ListEntry) -> Result<()>,
    ) -> Result<()> {
        let mut pages = self.client.list(path.clone(), options);
        while let Some(page) = pages.next().await {
            let page = page.map_err(Failure::from)?;
            for entry in page.entries {
                each(&mut self.out, entry)?;
            }
            self.out.flush()?;
            if page.skipped > 0 {
                remark(&format!("{} keys below {path} cannot be written as paths and are left out", page.skipped));
            }
        }
        Ok(())
    }
}
