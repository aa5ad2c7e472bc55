//! `headpond fs status`.

use clap::Args;
use headpond_client::Pending;
use headpond_types::{FileKind, NsPath};
use serde::Serialize;

use crate::{
    failure::Result,
    output::{PathJson, escape, size},
    session::Session,
};

/// Show what is not yet in the store as the namespace says, and why.
///
/// Of a file also how much of it is cached.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
}

#[derive(Debug, Serialize)]
struct StatusJson {
    #[serde(flatten)]
    path: PathJson,
    /// Nothing is pending.
    persisted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached: Option<u64>,
    writing: Vec<PathJson>,
    moving: Vec<MovingJson>,
}

#[derive(Debug, Serialize)]
struct MovingJson {
    #[serde(flatten)]
    path: PathJson,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(super) async fn run(session: &mut Session, args: &StatusArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let attr = session.stat(path).await?;
        let Pending { writing, moving } = session.client.pending(path).await?;
        let cached = match attr.content.filter(|_| attr.kind == FileKind::File) {
            Some(content) => {
                let presence = session.client.presence(&[content]).await?;
                // On the worker that has most of it: copies are not added up.
                presence.iter().filter_map(|worker| worker.cached_bytes.as_ref().ok()?.first().copied()).max()
            }
            None => None,
        };
        let persisted = writing.is_empty() && moving.is_empty();
        if session.out.is_json() {
            let moving = moving.into_iter().map(|moving| MovingJson {
                path: (&moving.path).into(),
                from: escape(&moving.from),
                problem: moving.problem,
            });
            let (writing, moving) = (writing.iter().map(PathJson::from).collect(), moving.collect());
            return session.out.json(&StatusJson { path: path.into(), persisted, cached, writing, moving });
        }
        let state = if persisted { "persisted" } else { "pending" };
        let cached = cached
            .map_or_else(String::new, |cached| format!(", {} of {} cached", size(cached, true), size(attr.size, true)));
        session.out.line(&format!("{}: {state}{cached}", escape(&path.to_bytes())))?;
        for path in writing {
            session.out.line(&format!("  {} is being written", escape(&path.to_bytes())))?;
        }
        for moving in moving {
            let (path, from) = (moving.path.to_bytes(), escape(&moving.from));
            let why = moving.problem.map_or_else(String::new, |problem| format!(": {problem}"));
            session.out.line(&format!("  objects of {} are being moved from {from}{why}", escape(&path)))?;
        }
        Ok(())
    })
    .await
}
