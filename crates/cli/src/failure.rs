//! How a command fails: one line on stderr that names the thing and the remedy, and an exit code.

use std::{
    error::Error as _,
    io,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use headpond_runtime::config::ConfigError;
use headpond_types::{Error, ErrorKind, PathError};
use serde::Serialize;

use crate::{exit_code, output::Format};

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be reported.
    Error(Error),
    /// Reported already; what is left is the exit code.
    Reported(u8),
    /// Who reads our output has gone: nothing to say, nothing to do.
    PipeClosed,
}

/// Result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Prints the line, if there is one, and answers the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::Error(error) => {
                print(&error);
                ExitCode::from(exit_code::of(error.kind()))
            }
            Self::Reported(code) => ExitCode::from(code),
            Self::PipeClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Error(error.into())
    }
}

impl From<PathError> for Failure {
    fn from(error: PathError) -> Self {
        let kind = match error {
            PathError::TooLong(_) => ErrorKind::NameTooLong,
            PathError::Empty | PathError::Dots | PathError::Separator | PathError::Relative(_) => {
                ErrorKind::InvalidArgument
            }
        };
        Self::Error(Error::new(kind, error.to_string()))
    }
}

/// Errors of writing to stdout; everything else that does IO names the thing by itself.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            io::ErrorKind::StorageFull => {
                Self::Error(Error::new(ErrorKind::ResourceExhausted, "cannot write the output").with_source(error))
            }
            _ => Self::Error(Error::new(ErrorKind::Internal, "cannot write the output").with_source(error)),
        }
    }
}

/// Failures of several things of which one does not stop the others.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    code: Option<u8>,
}

impl Failures {
    /// Reports `failure` and remembers it; only a closed pipe stops the rest.
    pub(crate) fn note(&mut self, failure: Failure) -> Result<()> {
        let code = match failure {
            Failure::Error(error) => {
                print(&error);
                exit_code::of(error.kind())
            }
            Failure::Reported(code) => code,
            Failure::PipeClosed => return Err(Failure::PipeClosed),
        };
        self.code = Some(if self.code.is_none_or(|before| before == code) { code } else { exit_code::SEVERAL });
        Ok(())
    }

    /// How it went as a whole.
    pub(crate) fn end(self) -> Result<()> {
        self.code.map_or(Ok(()), |code| Err(Failure::Reported(code)))
    }
}

/// The error and its causes in one line.
pub(crate) fn line(error: &Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        source = cause.source();
    }
    one_line(&line)
}

/// Whether errors are told as JSON, as what a command prints.
static AS_JSON: AtomicBool = AtomicBool::new(false);

/// An error for programs.
#[derive(Debug, Serialize)]
struct ErrorJson {
    error: String,
    /// As in `headpond exit-codes`.
    code: u8,
}

/// From now on errors are told as `format` says.
pub(crate) fn speak(format: Format) {
    AS_JSON.store(format == Format::Json, Ordering::Relaxed);
}

/// Prints the error as a line of ours, or an object on a line.
#[expect(clippy::print_stderr, reason = "where errors go")]
pub(crate) fn print(error: &Error) {
    let line = line(error);
    let json =
        AS_JSON.load(Ordering::Relaxed).then(|| ErrorJson { error: line.clone(), code: exit_code::of(error.kind()) });
    match json.and_then(|json| serde_json::to_string(&json).ok()) {
        Some(json) => eprintln!("{json}"),
        None => eprintln!("headpond: {line}"),
    }
}

/// Prints a remark that is no failure.
#[expect(clippy::print_stderr, reason = "where remarks go")]
pub(crate) fn remark(text: &str) {
    eprintln!("headpond: {}", one_line(text));
}

/// Reports a defect.
pub(crate) fn internal(text: &str) -> ExitCode {
    Failure::from(Error::new(ErrorKind::Internal, text)).report()
}

/// Prints help and versions as they are, and a wrong command line as one line.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => Failure::from(error).report(),
        };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _unprinted = error.print();
        return ExitCode::from(exit_code::of(ErrorKind::InvalidArgument));
    }
    Failure::from(Error::new(ErrorKind::InvalidArgument, usage_line(&error.render().to_string()))).report()
}

/// What clap says in paragraphs, as one line.
fn usage_line(rendered: &str) -> String {
    let said = rendered.split("\nUsage:").next().unwrap_or_default();
    let said = said.split("\nFor more information").next().unwrap_or_default();
    let said = one_line(said.strip_prefix("error: ").unwrap_or(said)).replace(" tip: ", "; ");
    let usage = rendered.split("\nUsage: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("headpond");
    let command: Vec<_> = usage.split(' ').take_while(|word| word.starts_with(char::is_lowercase)).collect();
    let command = if command.is_empty() { "headpond".to_owned() } else { command.join(" ") };
    format!("{said}; see `{command} --help`")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn a_wrong_command_line_is_one_line_that_names_it() {
        for (arguments, says) in [
            (&["headpond", "fs", "ls", "--frobnicate"][..], "unexpected argument '--frobnicate' found"),
            (&["headpond", "fs", "cat"], "required arguments were not provided: <PATH>..."),
            (&["headpond", "fs", "sl", "/"], "unrecognized subcommand 'sl'"),
            (&["headpond", "fs", "ls", "-o", "yaml"], "invalid value 'yaml'"),
        ] {
            let error = Cli::try_parse_from(arguments).expect_err("wrong");
            let line = usage_line(&error.render().to_string());
            assert!(line.contains(says) && line.contains("see `headpond "), "{line}");
            assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }

    #[test]
    fn causes_are_told_once() {
        let cause = io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Internal, "cannot write").with_source(cause);
        assert_eq!(line(&error), "cannot write: disk on fire");
        let cause = io::Error::other("disk on fire");
        let error = Error::new(ErrorKind::Internal, "cannot write:\ndisk on fire").with_source(cause);
        assert!(line(&error).ends_with("disk on fire"));
    }

    #[test]
    fn failures_of_one_kind_keep_their_code() {
        let error = |kind| Failure::Error(Error::new(kind, "x"));
        let mut same = Failures::default();
        same.note(error(ErrorKind::NotFound)).expect("goes on");
        same.note(error(ErrorKind::NotFound)).expect("goes on");
        assert!(matches!(same.end(), Err(Failure::Reported(3))));
        let mut mixed = Failures::default();
        mixed.note(error(ErrorKind::NotFound)).expect("goes on");
        mixed.note(error(ErrorKind::Stale)).expect("goes on");
        assert!(matches!(mixed.end(), Err(Failure::Reported(exit_code::SEVERAL))));
        assert!(Failures::default().end().is_ok());
    }
}
