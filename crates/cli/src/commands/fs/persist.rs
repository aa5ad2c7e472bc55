//! `headpond fs persist`.

use clap::Args;
use headpond_types::NsPath;
use serde::Serialize;

use crate::{
    failure::Result,
    output::{PathJson, escape},
    session::Session,
};

/// Have files brought to the store although they are deferred or scratch.
///
/// They take their turn from now on; `headpond fs sync` waits for them.
#[derive(Debug, Args)]
pub(super) struct PersistArgs {
    /// Files, or directories with all below.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
}

#[derive(Debug, Serialize)]
struct PersistJson {
    #[serde(flatten)]
    path: PathJson,
    /// Files that were not to be persisted before.
    files: u64,
}

pub(super) async fn run(session: &mut Session, args: &PersistArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let files = session.client.persist_path(path).await?;
        if session.out.is_json() {
            return session.out.json(&PersistJson { path: path.into(), files });
        }
        session.out.line(&format!("{}: {files} more files on their way to the store", escape(&path.to_bytes())))
    })
    .await
}
