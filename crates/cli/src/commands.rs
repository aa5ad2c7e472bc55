//! One module per command.

pub(crate) mod admin;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod fs;
pub(crate) mod master;
pub(crate) mod mount;
pub(crate) mod up;
pub(crate) mod worker;

use crate::{
    args::{Cli, Command},
    exit_code,
    failure::Result,
};

/// Runs the command that the command line asks for.
pub(crate) fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Up(args) => up::run(args),
        Command::Master(args) => master::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Mount(args) => mount::run(args),
        Command::Fs(args) => fs::run(args),
        Command::Admin(args) => admin::run(args),
        Command::Config(args) => config::run(&args),
        Command::Completion(args) => completion::run(&args),
        Command::MountGuard { mountpoint, device } => Ok(headpond_fuse::guard_mount(&mountpoint, &device)?),
        Command::ExitCodes { output } => exit_code::print(output),
    }
}
