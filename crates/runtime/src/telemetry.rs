//! Logs: structured events to stderr, as text or JSON.

use std::{io::IsTerminal, str::FromStr};

use headpond_types::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// Section `[log]`. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives per module such as `info,headpond_worker=debug`. More says
    /// more and costs more. Default: `info,openraft=warn`.
    pub level: String,
    /// How events are written. Default: `text`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info,openraft=warn".to_owned(), format: LogFormat::default() }
    }
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people, coloured on a terminal.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not a log format: use text or json"))),
        }
    }
}

/// Sends this process's events to stderr from now on.
///
/// # Errors
/// `InvalidArgument` when the level cannot be read; `AlreadyExists` when events go somewhere already.
pub fn init(config: &LogConfig) -> Result<()> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| {
        let message = format!(
            "log level {:?} is wrong: use error, warn, info, debug, trace or directives such as \"info,headpond_worker=debug\"",
            config.level
        );
        Error::new(ErrorKind::InvalidArgument, message).with_source(error)
    })?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let registry = registry().with(filter);
    let started = match config.format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).try_init()
        }
    };
    started.map_err(|error| Error::new(ErrorKind::AlreadyExists, "logging was started before").with_source(error))
}
