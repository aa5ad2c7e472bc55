//! `headpond fs sync`.

use std::time::Duration;

use clap::Args;
use headpond_types::{Error, ErrorKind, NsPath};
use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::time::Instant;

use crate::{args::parse_duration, failure::Result, session::Session};

/// Pause between two questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Wait until the store holds everything as the namespace says.
///
/// Files that are being written are waited for until they are closed, and renames until their objects are moved. Whoever reads the store itself then
/// sees all that was acknowledged before.
#[derive(Debug, Args)]
pub(super) struct SyncArgs {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
    /// Give up after this long, such as 30s or 5m. Default: never.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

pub(super) async fn run(session: &mut Session, args: &SyncArgs) -> Result<()> {
    let until = args.timeout.map(|timeout| Instant::now() + timeout);
    super::for_each_path(session, &args.paths, async |session, path| {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        loop {
            let pending = session.client.pending(path).await?;
            let (writing, moving) = (pending.writing.len(), pending.moving.len());
            if writing + moving == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            bar.set_message(format!("{path}: {writing} files being written, {moving} renames being followed"));
            bar.tick();
            if until.is_some_and(|until| Instant::now() >= until) {
                let problem = pending.moving.into_iter().find_map(|moving| moving.problem);
                let why = problem.map_or_else(String::new, |problem| format!(": {problem}"));
                let message = format!(
                    "{path} is not in the store yet: {writing} files being written, {moving} renames being followed{why}"
                );
                return Err(Error::new(ErrorKind::DeadlineExceeded, message).into());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    })
    .await
}
