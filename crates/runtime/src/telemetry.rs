//! Logs: structured events to stderr, as text or JSON.

use std::{io::IsTerminal, str::FromStr};

use headpond_types::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, filter::LevelFilter, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// Section `[log]`. A change needs a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, or directives per module such as `info,headpond_worker=debug`. More says
    /// more and costs more. Of the journal's Raft library only warnings are said unless a directive names it (`openraft=info`).
    /// Default: `info`.
    pub level: String,
    /// How events are written. Default: `text`.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::default() }
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

/// Directives that stand unless the configured level says otherwise of the same module: a term of Raft's own is no event of Headpond.
const QUIET: [(&str, &str); 1] = [("openraft", "warn")];

fn filter(level: &str) -> Result<EnvFilter> {
    let wrong = || {
        let message = format!(
            "log level {level:?} is wrong: use error, warn, info, debug, trace or directives such as \"info,headpond_worker=debug\""
        );
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let invalid = |error| wrong().with_source(error);
    // A word alone would be taken for a module of that name, of which there is none, and nothing would be logged.
    if level.split(',').any(|word| !word.contains(['=', '[']) && word.parse::<LevelFilter>().is_err()) {
        return Err(wrong());
    }
    // Checked by itself, so that what is said of it is about what was configured.
    EnvFilter::try_new(level).map_err(invalid)?;
    let quiet = QUIET.iter().filter(|(module, _)| !level.contains(module));
    let directives = quiet.map(|(module, level)| format!("{module}={level}")).chain([level.to_owned()]);
    EnvFilter::try_new(directives.collect::<Vec<_>>().join(",")).map_err(invalid)
}

/// Sends this process's events to stderr from now on.
///
/// # Errors
/// `InvalidArgument` when the level cannot be read; `AlreadyExists` when events go somewhere already.
pub fn init(config: &LogConfig) -> Result<()> {
    let filter = filter(&config.level)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raft_is_quiet_at_every_level_until_it_is_named() {
        for (level, expected) in [
            ("info", "openraft=warn,info"),
            ("debug,headpond_worker=trace", "headpond_worker=trace,openraft=warn,debug"),
            ("warn,openraft=debug", "openraft=debug,warn"),
            ("openraft::raft_core=info", "openraft::raft_core=info"),
        ] {
            assert_eq!(filter(level).expect("good").to_string(), expected);
        }
        let error = filter("info,=7").expect_err("bad").to_string();
        assert!(error.contains("\"info,=7\""), "{error}");
        for misspelt in ["debgu", "info,headpond_worker", "7"] {
            assert!(filter(misspelt).is_err(), "{misspelt}");
        }
        filter("off,headpond_worker[span]=debug").expect("good");
    }
}
