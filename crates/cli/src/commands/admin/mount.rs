//! `headpond admin mounts`, `headpond admin mount add` and `remove`.

use std::{collections::BTreeMap, time::Duration};

use clap::{Args, Subcommand};
use headpond_client::{Mount, NewMount};
use headpond_runtime::units;
use headpond_types::{Error, ErrorKind, NsPath};
use serde::Serialize;

use crate::{
    durability::{self, DurabilityArgs},
    failure::Result,
    output::{Output, PathJson, Table, escape},
    session::Session,
};

/// Add or remove a mount.
#[derive(Debug, Subcommand)]
pub(super) enum MountCommand {
    Add(AddArgs),
    /// Take a mount away; the store is not touched.
    Remove {
        /// Where it is mounted.
        path: NsPath,
    },
}

/// Show a store, or a part of it, at a path of the namespace.
///
/// The store's root is listed once with the master's credentials before the mount is made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond admin mount add /data s3://bucket/prefix
  headpond admin mount add /tmp-data s3://bucket/tmp --durability async --copies 2
  headpond admin mount add /minio s3://bucket --option endpoint=http://minio:9000 \\
      --option path_style=true --option credentials=minio

With credentials=NAME the keys come from [credentials.NAME] of the configuration of each process.")]
pub(super) struct AddArgs {
    /// Where it shall appear; missing directories above are made.
    path: NsPath,
    /// The store: s3://bucket/prefix, file:///directory or memory://name. Never with credentials.
    uri: String,
    /// Option of the store: endpoint, region, path_style, credentials or profile (a name, never a secret).
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = parse_option)]
    options: Vec<(String, String)>,
    /// Refuse changes.
    #[arg(long)]
    read_only: bool,
    /// How long a change behind headpond's back may stay unseen: 30s, 5m, 0 to check at every use, or never.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    sync_interval: SyncInterval,
    /// Owner that files show where the store knows none.
    #[arg(long, default_value_t = 0)]
    uid: u32,
    /// Group likewise.
    #[arg(long, default_value_t = 0)]
    gid: u32,
    /// Permission bits of files likewise, in octal.
    #[arg(long, value_name = "MODE", default_value = "644", value_parser = parse_mode)]
    file_mode: u32,
    /// Permission bits of directories likewise, in octal.
    #[arg(long, value_name = "MODE", default_value = "755", value_parser = parse_mode)]
    dir_mode: u32,
    #[command(flatten)]
    durability: DurabilityArgs,
}

/// A duration or `never`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyncInterval(pub(crate) Option<Duration>);

impl std::str::FromStr for SyncInterval {
    type Err = units::UnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        units::parse_duration_or_never(text).map(Self)
    }
}

#[derive(Debug, Serialize)]
struct MountJson<'a> {
    id: u32,
    #[serde(flatten)]
    path: PathJson,
    uri: &'a str,
    options: &'a BTreeMap<String, String>,
    read_only: bool,
    /// Milliseconds; `null` for never.
    sync_interval_ms: Option<u64>,
    uid: u32,
    gid: u32,
    file_mode: String,
    dir_mode: String,
    durability: &'static str,
    /// As PATTERN=MODE.
    durability_rules: Vec<String>,
    commit_patterns: &'a [String],
    temporary_patterns: &'a [String],
    copies: u32,
    strict_copies: bool,
}

impl<'a> From<&'a Mount> for MountJson<'a> {
    fn from(mount: &'a Mount) -> Self {
        let spec = &mount.spec;
        let millis = |interval: Duration| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: mount.id.0,
            path: (&spec.path).into(),
            uri: &spec.uri,
            options: &spec.options,
            read_only: spec.read_only,
            sync_interval_ms: spec.sync_interval.map(millis),
            uid: spec.uid,
            gid: spec.gid,
            file_mode: format!("{:04o}", spec.file_mode),
            dir_mode: format!("{:04o}", spec.dir_mode),
            durability: spec.persistence.durability.name(),
            durability_rules: spec.persistence.rules.iter().map(ToString::to_string).collect(),
            commit_patterns: &spec.persistence.commit_patterns,
            temporary_patterns: &spec.persistence.temporary_patterns,
            copies: spec.persistence.copies,
            strict_copies: spec.persistence.strict_copies,
        }
    }
}

pub(super) async fn run(session: &mut Session, command: MountCommand) -> Result<()> {
    match command {
        MountCommand::Add(args) => add(session, args).await,
        MountCommand::Remove { path } => remove(session, &path).await,
    }
}

pub(super) async fn list(session: &mut Session) -> Result<()> {
    let mounts = session.client.admin().mounts().await?;
    print(&mut session.out, &mounts)
}

async fn add(session: &mut Session, args: AddArgs) -> Result<()> {
    let mount = NewMount {
        path: args.path,
        uri: args.uri,
        options: args.options.into_iter().collect(),
        read_only: args.read_only,
        sync_interval: args.sync_interval.0,
        uid: args.uid,
        gid: args.gid,
        file_mode: args.file_mode,
        dir_mode: args.dir_mode,
        persistence: args.durability.into(),
    };
    let added = session.client.admin().add_mount(mount).await?;
    print(&mut session.out, &[added])
}

async fn remove(session: &mut Session, path: &NsPath) -> Result<()> {
    session.client.admin().remove_mount(path).await?;
    if session.out.is_json() {
        return session.out.json(&PathJson::from(path));
    }
    Ok(())
}

fn print(out: &mut Output, mounts: &[Mount]) -> Result<()> {
    if out.is_json() {
        return mounts.iter().try_for_each(|mount| out.json(&MountJson::from(mount)));
    }
    let mut table = Table::new(&["PATH", "STORE", "MODE", "SYNC", "DURABILITY", "OPTIONS"]);
    for mount in mounts {
        let spec = &mount.spec;
        let sync = spec.sync_interval.map_or_else(|| "never".to_owned(), units::format_duration);
        let options: Vec<_> = spec.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mode = if spec.read_only { "read only" } else { "read write" };
        let path = escape(&spec.path.to_bytes());
        let durability = durability::describe(&spec.persistence);
        table.row(vec![path, spec.uri.clone(), mode.to_owned(), sync, durability, options.join(",")]);
    }
    table.print(out)
}

fn parse_option(text: &str) -> Result<(String, String), Error> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => {
            let message = format!("{text:?} is not an option: write KEY=VALUE, as region=eu-central-1");
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

fn parse_mode(text: &str) -> Result<u32, Error> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| {
        Error::new(ErrorKind::InvalidArgument, format!("{text:?} is not a mode: write octal digits, as 644"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_and_modes_are_checked() {
        assert_eq!(parse_option("a=b=c").expect("valid"), ("a".to_owned(), "b=c".to_owned()));
        assert!(parse_option("region").is_err() && parse_option("=x").is_err());
        assert_eq!(parse_mode("0644").expect("valid"), 0o644);
        assert!(parse_mode("999").is_err() && parse_mode("77777").is_err());
    }
}
