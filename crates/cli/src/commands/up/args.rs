//! The command line of `headpond up`.

use std::path::PathBuf;

use clap::Args;

use super::plan::{MOUNTPOINT, STATE_DIR};
use crate::{
    args::{ProcessArgs, parse_size},
    commands::{admin::SyncInterval, mount::MountOption},
    durability::DurabilityArgs,
};

/// Run everything in one process: master, worker and mount.
///
/// What is written in the mount is in the store, and the other way round. Without arguments the store is the directory ./lake and the mount ./pond; both are made. State and cache lie in
/// ./.headpond. Ctrl-C unmounts and ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond up
  headpond up s3://bucket/prefix /mnt/lake
  headpond up s3://bucket --endpoint http://127.0.0.1:9000 --region us-east-1
  headpond up s3://bucket --durability async
  headpond up file:///data --no-mount

Keys for S3 come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from AWS_PROFILE (or --profile) and
~/.aws, from the machine's role, or, with --credentials NAME, from [credentials.NAME] of the
configuration.")]
pub(crate) struct UpArgs {
    /// The store to show: s3://bucket/prefix, file:///directory or a directory.
    #[arg(value_name = "URI")]
    pub(super) uri: Option<String>,
    /// Where to mount it; made if it does not exist.
    #[arg(value_name = "MOUNTPOINT", default_value = MOUNTPOINT, conflicts_with = "no_mount")]
    pub(super) mountpoint: PathBuf,
    /// Serve without a FUSE mount.
    #[arg(long)]
    pub(super) no_mount: bool,
    /// URL of an S3-compatible server. Default: AWS, or AWS_ENDPOINT_URL.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: Option<String>,
    /// Region of the bucket. Default: AWS_REGION or the profile's.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Take the keys from `credentials.NAME` of the configuration.
    #[arg(long, value_name = "NAME")]
    pub(super) credentials: Option<String>,
    /// Take keys, and region and endpoint unless they are given, from this profile of ~/.aws rather than from the environment.
    #[arg(long, value_name = "NAME", conflicts_with = "credentials")]
    pub(super) profile: Option<String>,
    /// Put the bucket's name into the path of requests instead of the host name. Default with --endpoint.
    #[arg(long)]
    pub(super) path_style: bool,
    /// Refuse changes.
    #[arg(long)]
    pub(super) read_only: bool,
    /// How long a change behind headpond's back may stay unseen: 30s, 5m, 0 to check at every use, or never. Default: 30s.
    #[arg(long, value_name = "DURATION")]
    pub(super) sync_interval: Option<SyncInterval>,
    #[command(flatten)]
    pub(super) durability: DurabilityArgs,
    /// Options of the mount, separated by commas.
    #[arg(short = 'o', value_name = "OPTION", value_enum, value_delimiter = ',')]
    pub(super) options: Vec<MountOption>,
    /// Directory of journal, namespace and cache.
    #[arg(long, value_name = "DIR", default_value = STATE_DIR)]
    pub(super) state_dir: PathBuf,
    /// Directory of the cache. Default: worker/cache in the state directory.
    #[arg(long, value_name = "DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// Most bytes that the cache takes, such as 64GiB. Default: 16 GiB, but at most half of what is free.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) cache_size: Option<u64>,
    /// Where the master listens. Default: 127.0.0.1:7100.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) master_bind: Option<String>,
    /// Where the worker listens. Default: 127.0.0.1:7200.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) worker_bind: Option<String>,
    /// Where metrics and health are served. Default: 127.0.0.1:7110.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) http_bind: Option<String>,
    #[command(flatten)]
    pub(super) process: ProcessArgs,
}
