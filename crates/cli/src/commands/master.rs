//! `headpond master`.

use std::path::PathBuf;

use clap::Args;
use headpond_runtime::{Ending, Signals};

use crate::{
    args::ProcessArgs,
    credentials::ConfiguredCredentials,
    failure::Result,
    part::{Observed, Part, interrupted},
    process,
    settings::{self, Role, Settings, flag},
};

/// Run a master: the namespace over its under stores.
///
/// Settings are those of `master`, `tls`, `http`, `log` and `credentials.NAME`; `headpond config show --for master` lists them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond master --state-dir /var/lib/headpond/master --bind 0.0.0.0:7100
  headpond master -c /etc/headpond/headpond.toml --log-format json")]
pub(crate) struct MasterArgs {
    /// Where clients and workers reach it. Default: 127.0.0.1:7100.
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<String>,
    /// Directory of the journal and the namespace. Default: ./.headpond/master.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where metrics and health are served. Default: 127.0.0.1:7110.
    #[arg(long, value_name = "HOST:PORT")]
    http_bind: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) fn run(args: MasterArgs) -> Result<()> {
    let layers = settings::layers(&Settings::of(Role::Master), &args.process)?;
    let layers = flag(layers, "--bind", "master.bind", args.bind.as_ref())?;
    let layers = flag(layers, "--state-dir", "master.state_dir", args.state_dir.as_ref())?;
    let layers = flag(layers, "--http-bind", "http.bind", args.http_bind.as_ref())?;
    let settings = Settings::load(&layers)?;
    process::run(&settings.log.clone(), async |signals| serve(settings, signals).await)
}

async fn serve(settings: Settings, signals: &mut Signals) -> Result<Ending> {
    let observed = Observed::serve(&settings.http).await?;
    let part = Part::new("master");
    let credentials = ConfiguredCredentials::new(settings.credentials);
    let master = tokio::select! {
        started = observed.master(&part, settings.master, credentials) => started?,
        signal = signals.next() => return Err(interrupted(signal).into()),
    };
    tracing::debug!(address = %master.address(), "started");
    Ok(observed.serve_until_signal(part, signals).await)
}
