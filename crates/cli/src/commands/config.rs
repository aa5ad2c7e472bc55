//! `headpond config`.

use clap::{Args, Subcommand};
use headpond_runtime::config::Loaded;

use crate::{
    args::ProcessArgs,
    commands::up,
    failure::{self, Result},
    output::{Format, Output, Table},
    settings::{self, Role, Settings},
};

/// Say what is configured, and where.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Every setting with its value and where it was set; secrets are not shown.
    Show {
        /// The process whose defaults count.
        #[arg(long = "for", value_name = "PROCESS", value_enum, default_value_t = Role::Command)]
        role: Role,
        #[command(flatten)]
        process: ProcessArgs,
        /// How to print: text for people, json for programs (an object per line).
        #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
        output: Format,
    },
}

pub(crate) fn run(args: &ConfigArgs) -> Result<()> {
    let ConfigCommand::Show { role, process, output } = &args.command;
    failure::speak(*output);
    let defaults = match role {
        Role::Up => up::default_settings()?,
        Role::Master | Role::Worker | Role::Mount | Role::Command => Settings::of(*role),
    };
    let layers = settings::layers(&defaults, process)?;
    let layers = match role {
        Role::Mount | Role::Command => settings::masters(layers, None)?,
        Role::Up | Role::Master | Role::Worker => layers,
    };
    let loaded: Loaded<Settings> = layers.load()?;
    let mut out = Output::new(*output);
    if out.is_json() {
        loaded.settings.iter().try_for_each(|setting| out.json(setting))?;
        return out.flush();
    }
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    for setting in loaded.settings {
        let value = match setting.value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => "-".to_owned(),
            value => value.to_string(),
        };
        table.row(vec![setting.key, value, setting.origin.to_string()]);
    }
    table.print(&mut out)?;
    out.flush()
}
