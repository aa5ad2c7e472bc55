//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use headpond_runtime::{LogFormat, units};
use headpond_types::{Error, ErrorKind};

use crate::{commands, exit_code, output::Format};

/// Headpond keeps a data lake's hot data next to the compute that needs it: a cache between object stores and the
/// machines that read them, seen as one file system.
#[derive(Debug, Parser)]
#[command(name = "headpond", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  headpond up                                 try it: ./lake is the store, ./pond the mount
  headpond up s3://bucket/prefix /mnt/lake    read a bucket through a mount
  headpond fs ls -l /                         look at the namespace without a mount
  headpond help exit-codes                    what exit codes mean

Settings come from defaults, a TOML file (--config), the environment (HEADPOND_LOG__LEVEL is
`level` in [log]) and flags, each overriding those before; `headpond config show` says what is
set and where.";

/// What commands that run a part of the cluster take.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ProcessArgs {
    /// Configuration file (TOML). Default: /etc/headpond/headpond.toml, if there is one.
    #[arg(short, long, value_name = "FILE", env = "HEADPOND_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// How much to log: error, warn, info, debug, trace, or directives such as info,headpond_worker=debug.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// How to log: text or json.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

/// TLS between the parts of a cluster.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "TLS (section [tls])")]
pub(crate) struct TlsArgs {
    /// PEM file with the authorities that sign the cluster's certificates. Default: none, which means plaintext.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// PEM file with the certificate of this process.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// PEM file with the private key of --tls-cert.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Name that certificates of servers must have. Default: the host that is dialled.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
}

/// Reads an argument that is a size, such as 64GiB.
pub(crate) fn parse_size(text: &str) -> Result<u64, Error> {
    units::parse_bytes(text).map_err(|error| Error::new(ErrorKind::InvalidArgument, error.to_string()))
}

/// Reads an argument that is a time, such as 30s.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Error> {
    units::parse_duration(text).map_err(|error| Error::new(ErrorKind::InvalidArgument, error.to_string()))
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(commands::up::UpArgs),
    Master(commands::master::MasterArgs),
    Worker(commands::worker::WorkerArgs),
    Mount(commands::mount::MountArgs),
    Fs(commands::fs::FsArgs),
    Admin(commands::admin::AdminArgs),
    Config(commands::config::ConfigArgs),
    Completion(commands::completion::CompletionArgs),
    /// Explain the exit codes.
    #[command(long_about = exit_code::TABLE)]
    ExitCodes {
        /// How to print: text for people, json for programs (an object per line).
        #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
        output: Format,
    },
    /// Watch over a mount, which starts this by itself.
    #[command(name = headpond_fuse::GUARD_COMMAND, hide = true)]
    MountGuard {
        /// Where it is mounted.
        mountpoint: PathBuf,
        /// Device of its files, `major:minor`.
        device: String,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
