//! `headpond admin`: mounts, workers, the cluster at a glance.

mod check;
mod mount;
mod problems;
mod status;
mod workers;

use clap::{Args, Subcommand};

pub(crate) use mount::SyncInterval;

use crate::{
    failure::Result,
    session::{self, SessionArgs},
};

/// Look after mounts and workers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond admin mount add /data s3://bucket/prefix --option region=eu-central-1
  headpond admin mounts
  headpond admin problems
  headpond admin check
  headpond admin status -o json")]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// List the mounts: which path shows which store.
    Mounts,
    /// Add or remove a mount.
    #[command(subcommand)]
    Mount(mount::MountCommand),
    /// List the workers and what they hold.
    Workers,
    /// The cluster at a glance, and what is wrong with it.
    Status,
    Problems(problems::ProblemsArgs),
    Check(check::CheckArgs),
}

pub(crate) fn run(args: AdminArgs) -> Result<()> {
    session::run(&args.session, async |session| match args.command {
        AdminCommand::Mounts => mount::list(session).await,
        AdminCommand::Mount(command) => mount::run(session, command).await,
        AdminCommand::Workers => workers::run(session).await,
        AdminCommand::Status => status::run(session).await,
        AdminCommand::Problems(args) => problems::run(session, args).await,
        AdminCommand::Check(args) => check::run(session, args).await,
    })
}
