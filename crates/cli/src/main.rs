//! The `headpond` binary: reads the command line, runs the command, and turns its end into an exit code.

mod args;
mod commands;
mod credentials;
mod durability;
mod exit_code;
mod failure;
#[cfg(feature = "failpoints")]
mod kill_point;
mod output;
mod part;
mod process;
mod session;
mod settings;
mod socket;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return failure::internal("a TLS provider was installed before main");
    }
    #[cfg(feature = "failpoints")]
    if let Err(error) = kill_point::arm() {
        return failure::Failure::from(error).report();
    }
    let ended = match args::Cli::try_parse() {
        Ok(cli) => commands::run(cli),
        Err(error) => return failure::usage(&error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
