//! `headpond fs free`.

use clap::Args;
use headpond_types::NsPath;
use serde::Serialize;

use crate::{
    failure::Result,
    output::{PathJson, escape, size},
    session::Session,
};

/// Drop the cached copies of files; the store is not touched.
///
/// What readers have open is dropped when they close it.
#[derive(Debug, Args)]
pub(super) struct FreeArgs {
    /// Files, or directories with --recursive.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// All files below directories.
    #[arg(short, long)]
    recursive: bool,
}

#[derive(Debug, Serialize)]
struct FreedJson {
    #[serde(flatten)]
    path: PathJson,
    contents: u64,
    bytes: u64,
}

pub(super) async fn run(session: &mut Session, args: &FreeArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let freed = session.client.free(path.clone(), args.recursive).await?;
        let (contents, bytes) = (freed.contents, freed.bytes);
        if session.out.is_json() {
            return session.out.json(&FreedJson { path: path.into(), contents, bytes });
        }
        let path = escape(&path.to_bytes());
        session.out.line(&format!("{path}: {} in {contents} cached contents freed", size(bytes, true)))
    })
    .await
}
