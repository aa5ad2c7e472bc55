//! `headpond fs load`.

use clap::Args;
use headpond_client::LoadOptions;
use headpond_types::NsPath;
use serde::Serialize;

use super::progress;
use crate::{
    failure::{Failure, Failures, Result},
    output::{PathJson, escape, size},
    session::Session,
};

/// Bring files into the cache.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Files, or directories with --recursive.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// All files below directories.
    #[arg(short, long)]
    recursive: bool,
    /// Into the worker of this node rather than into those that own the blocks.
    #[arg(long)]
    local: bool,
    /// Files loaded at once.
    #[arg(short, long, value_name = "COUNT", default_value_t = 16)]
    parallel: u16,
}

#[derive(Debug, Serialize)]
struct LoadedJson {
    #[serde(flatten)]
    path: PathJson,
    files: u64,
    bytes: u64,
    failed: u64,
}

pub(super) async fn run(session: &mut Session, args: &LoadArgs) -> Result<()> {
    let parallel = usize::from(args.parallel.max(1));
    let options = LoadOptions { recursive: args.recursive, local: args.local, parallel };
    super::for_each_path(session, &args.paths, async |session, path| {
        let bar = progress::bytes(0);
        let load = session.client.load(path.clone(), options.clone(), |progress| {
            bar.set_length(progress.bytes_total);
            bar.set_position(progress.bytes_done);
            bar.set_message(format!("{}/{} files", progress.files_done, progress.files_total));
        });
        let done = load.await?;
        bar.finish_and_clear();
        let (files, bytes, failed) = (done.files_done, done.bytes_done, done.files_failed);
        if session.out.is_json() {
            session.out.json(&LoadedJson { path: path.into(), files, bytes, failed })?;
        } else {
            let path = escape(&path.to_bytes());
            session.out.line(&format!("{path}: {files} files, {} in the cache", size(bytes, true)))?;
        }
        session.out.flush()?;
        let mut failures = Failures::default();
        for failure in done.failures {
            failures.note(Failure::from(failure.error))?;
        }
        failures.end()
    })
    .await
}
