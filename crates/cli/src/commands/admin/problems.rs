//! `headpond admin problems`.

use clap::{Args, Subcommand};
use headpond_client::{Problem, Resolution};
use headpond_types::NsPath;
use serde::Serialize;

use crate::{
    failure::Result,
    output::{PathJson, Table, escape, moment},
    session::Session,
};

/// List what cannot be persisted or moved, and decide what becomes of it.
///
/// What fails is tried again by itself. A conflict waits for a decision: the store has another version than the one that was changed, or another object where
/// a rename is to move one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond admin problems
  headpond admin problems retry /data/part-0.parquet
  headpond admin problems divert /data/part-0.parquet")]
pub(super) struct ProblemsArgs {
    #[command(subcommand)]
    resolution: Option<Resolve>,
}

#[derive(Debug, Subcommand)]
enum Resolve {
    /// Try again now.
    Retry(Target),
    /// Replace what the store has by what was written or renamed.
    Overwrite(Target),
    /// Give up what was written or renamed: the file becomes what the store has. Dismisses a notice.
    Skip(Target),
    /// Store what was written, or keep what was renamed, under another name beside; the file becomes what the store has.
    Divert(Target),
}

#[derive(Debug, Args)]
struct Target {
    /// The file or directory with the problem.
    path: NsPath,
}

#[derive(Debug, Serialize)]
struct ProblemJson<'a> {
    #[serde(flatten)]
    path: PathJson,
    reason: &'a str,
    /// RFC 3339.
    since: String,
    held_up: u64,
    conflict: bool,
}

#[derive(Debug, Serialize)]
struct ResolvedJson {
    #[serde(flatten)]
    path: PathJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    diverted: Option<PathJson>,
}

pub(super) async fn run(session: &mut Session, args: ProblemsArgs) -> Result<()> {
    match args.resolution {
        None => list(session).await,
        Some(Resolve::Retry(target)) => resolve(session, &target.path, Resolution::Retry).await,
        Some(Resolve::Overwrite(target)) => resolve(session, &target.path, Resolution::Overwrite).await,
        Some(Resolve::Skip(target)) => resolve(session, &target.path, Resolution::Skip).await,
        Some(Resolve::Divert(target)) => resolve(session, &target.path, Resolution::Divert).await,
    }
}

async fn list(session: &mut Session) -> Result<()> {
    let problems = session.client.admin().problems().await?;
    if session.out.is_json() {
        return problems.iter().try_for_each(|problem| session.out.json(&ProblemJson::from(problem)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["PATH", "SINCE", "HOLDS UP", "KIND", "REASON"]);
    for problem in &problems {
        let kind = if problem.conflict { "conflict" } else { "failure" };
        table.row(vec![
            escape(&problem.path.to_bytes()),
            moment(problem.since),
            problem.held_up.to_string(),
            kind.to_owned(),
            problem.reason.clone(),
        ]);
    }
    table.print(&mut session.out)
}

async fn resolve(session: &mut Session, path: &NsPath, resolution: Resolution) -> Result<()> {
    let diverted = session.client.admin().resolve_problem(path, resolution).await?;
    if session.out.is_json() {
        let diverted = diverted.as_ref().map(PathJson::from);
        return session.out.json(&ResolvedJson { path: path.into(), diverted });
    }
    let Some(diverted) = diverted else { return Ok(()) };
    session.out.line(&format!("{} is kept as {}", escape(&path.to_bytes()), escape(&diverted.to_bytes())))
}

impl<'a> From<&'a Problem> for ProblemJson<'a> {
    fn from(problem: &'a Problem) -> Self {
        Self {
            path: (&problem.path).into(),
            reason: &problem.reason,
            since: moment(problem.since),
            held_up: problem.held_up,
            conflict: problem.conflict,
        }
    }
}
