//! `headpond fs`: files of the namespace, without a mount.

mod cat;
mod checksum;
mod du;
mod find;
mod free;
mod head;
mod ln;
mod load;
mod location;
mod ls;
mod mkdir;
mod mv;
mod persist;
mod pieces;
mod progress;
mod put;
mod reading;
mod rm;
mod stat;
mod status;
mod sync;
mod tail;
mod tree;
mod writing;

use clap::{Args, Subcommand};
use headpond_types::NsPath;

use crate::{
    failure::{Failures, Result},
    session::{self, Session, SessionArgs},
};

/// List, read, cache and change files of the namespace.
///
/// Paths are those of the namespace, such as /data/part-0.parquet; below the mount they are the same without its
/// directory. A path that fails is reported and the others go on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  headpond fs ls -l /data
  headpond fs head -n 5 /data/events.csv
  headpond fs find / --name '*.parquet' --size +100M
  headpond fs load -r /data
  headpond fs du -s -o json /data")]
pub(crate) struct FsArgs {
    #[command(flatten)]
    session: SessionArgs,
    #[command(subcommand)]
    command: FsCommand,
}

#[derive(Debug, Subcommand)]
enum FsCommand {
    Ls(ls::LsArgs),
    Stat(stat::StatArgs),
    Cat(cat::CatArgs),
    Head(head::HeadArgs),
    Tail(tail::TailArgs),
    Du(du::DuArgs),
    Find(find::FindArgs),
    Tree(tree::TreeArgs),
    Checksum(checksum::ChecksumArgs),
    Load(load::LoadArgs),
    Free(free::FreeArgs),
    Location(location::LocationArgs),
    Put(put::PutArgs),
    Mkdir(mkdir::MkdirArgs),
    Mv(mv::MvArgs),
    Ln(ln::LnArgs),
    Rm(rm::RmArgs),
    Status(status::StatusArgs),
    Persist(persist::PersistArgs),
    Sync(sync::SyncArgs),
}

pub(crate) fn run(args: FsArgs) -> Result<()> {
    session::run(&args.session, async |session| match args.command {
        FsCommand::Ls(args) => ls::run(session, &args).await,
        FsCommand::Stat(args) => stat::run(session, &args).await,
        FsCommand::Cat(args) => cat::run(session, &args).await,
        FsCommand::Head(args) => head::run(session, &args).await,
        FsCommand::Tail(args) => tail::run(session, &args).await,
        FsCommand::Du(args) => du::run(session, &args).await,
        FsCommand::Find(args) => find::run(session, &args).await,
        FsCommand::Tree(args) => tree::run(session, &args).await,
        FsCommand::Checksum(args) => checksum::run(session, &args).await,
        FsCommand::Load(args) => load::run(session, &args).await,
        FsCommand::Free(args) => free::run(session, &args).await,
        FsCommand::Location(args) => location::run(session, &args).await,
        FsCommand::Put(args) => put::run(session, &args).await,
        FsCommand::Mkdir(args) => mkdir::run(session, &args).await,
        FsCommand::Mv(args) => mv::run(session, &args).await,
        FsCommand::Ln(args) => ln::run(session, &args).await,
        FsCommand::Rm(args) => rm::run(session, &args).await,
        FsCommand::Status(args) => status::run(session, &args).await,
        FsCommand::Persist(args) => persist::run(session, &args).await,
        FsCommand::Sync(args) => sync::run(session, &args).await,
    })
}

/// Runs `each` for every path; one that fails is reported and does not stop the others.
async fn for_each_path(
    session: &mut Session,
    paths: &[NsPath],
    mut each: impl AsyncFnMut(&mut Session, &NsPath) -> Result<()>,
) -> Result<()> {
    let mut failures = Failures::default();
    for path in paths {
        if let Err(failure) = each(session, path).await {
            session.out.flush()?;
            failures.note(failure)?;
        }
    }
    failures.end()
}
