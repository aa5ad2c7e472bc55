//! `headpond mount`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use headpond_client::{Client, is_refusal};
use headpond_runtime::{Ending, Signals, config::Layers};
use headpond_types::{Error, NsPath};

use crate::{
    args::ProcessArgs,
    failure::Result,
    part::{Observed, Part, interrupted, unmount, worse},
    process,
    settings::{self, Role, Settings, flag},
};

/// Mount the namespace.
///
/// Files are read and written as in any file system; a file that is closed is in the store. Runs until Ctrl-C, which unmounts, or until somebody unmounts it. Settings are those of `mount`, `client`, `tls`,
/// `http` and `log`; `headpond config show --for mount` lists them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond mount /mnt/lake
  headpond mount /mnt/train --root /datasets -o dataset --master 10.0.0.1:7100")]
pub(crate) struct MountArgs {
    /// An empty directory.
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    /// Options, separated by commas.
    #[arg(short = 'o', value_name = "OPTION", value_enum, value_delimiter = ',')]
    options: Vec<MountOption>,
    /// Refuse changes, as -o ro.
    #[arg(long)]
    read_only: bool,
    /// Show only this directory of the namespace.
    #[arg(long, value_name = "PATH")]
    root: Option<NsPath>,
    /// Masters, separated by commas. Default: the environment's HEADPOND_MASTER, the setting client.masters, 127.0.0.1:7100.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    master: Option<Vec<String>>,
    /// Where metrics and health are served. Default: 127.0.0.1:7310.
    #[arg(long, value_name = "HOST:PORT")]
    http_bind: Option<String>,
    #[command(flatten)]
    process: ProcessArgs,
}

/// Options of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum MountOption {
    /// For training data: opening small files is several times faster. Read only.
    Dataset,
    /// Other users may use the mount too.
    AllowOther,
    /// Mount over a directory that has entries.
    Nonempty,
    /// Refuse changes.
    Ro,
}

/// Sets what the options of a mount say.
pub(crate) fn apply(options: &[MountOption], layers: Layers) -> Result<Layers> {
    options.iter().try_fold(layers, |layers, option| {
        let key = match option {
            MountOption::Dataset => "mount.dataset",
            MountOption::AllowOther => "mount.allow_other",
            MountOption::Nonempty => "mount.nonempty",
            MountOption::Ro => "mount.read_only",
        };
        flag(layers, "-o", key, Some(&true))
    })
}

pub(crate) fn run(args: MountArgs) -> Result<()> {
    let layers = settings::layers(&Settings::of(Role::Mount), &args.process)?;
    let layers = flag(layers, "MOUNTPOINT", "mount.mountpoint", Some(&args.mountpoint))?;
    let layers = flag(layers, "--read-only", "mount.read_only", args.read_only.then_some(&true))?;
    let layers = flag(layers, "--root", "mount.root", args.root.map(|root| root.to_string()).as_ref())?;
    let layers = settings::masters(layers, args.master.as_ref())?;
    let layers = flag(layers, "--http-bind", "http.bind", args.http_bind.as_ref())?;
    let settings = Settings::load(&apply(&args.options, layers)?)?;
    process::run(&settings.log.clone(), async |signals| serve(settings, signals).await)
}

async fn serve(settings: Settings, signals: &mut Signals) -> Result<Ending> {
    let observed = Observed::serve(&settings.http).await?;
    let (session, part) = (Part::new("client"), Part::new("mount"));
    let mut config = settings.client;
    "mount".clone_into(&mut config.name);
    let client = Client::connect(config, session.tasks().clone())?;
    let asking = client.clone();
    let mount = tokio::select! {
        started = observed.mount(&part, settings.mount, client) => started?,
        signal = signals.next() => return Err(interrupted(signal).into()),
    };
    observed.started();
    let refused = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "unmounting");
            None
        }
        () = mount.ended() => {
            tracing::info!("was unmounted");
            None
        }
        error = refused(asking) => Some(error),
    };
    let end = async {
        let unmounted = unmount(mount).await;
        let ended = worse(part.end().await, session.end().await);
        worse(worse(unmounted, ended), observed.end().await)
    };
    let ending = signals.or_force(end).await;
    refused.map_or(Ok(ending), |error| Err(error.into()))
}

/// Ends when the first answer of a master is that it will not have this mount, or that the mount cannot have it: no waiting helps then.
async fn refused(client: Client) -> Error {
    match client.stat_fs().await {
        Err(error) if is_refusal(&error) => error,
        Ok(_) | Err(_) => {
            drop(client);
            std::future::pending().await
        }
    }
}
