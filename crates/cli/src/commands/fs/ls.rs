//! `headpond fs ls`.

use clap::{ArgAction, Args};
use headpond_client::ListOptions;
use headpond_types::{Attr, FileKind, NsPath};

use crate::{
    failure::Result,
    output::{EntryJson, Output, below, escape, long_line},
    session::Session,
};

/// List directories.
///
/// Entries are printed as the store gives them, in byte order of their names; unprintable bytes as \xNN.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(super) struct LsArgs {
    /// Directories or files.
    #[arg(value_name = "PATH", default_value = "/")]
    paths: Vec<NsPath>,
    /// Mode, owner, group, size and time (UTC) too.
    #[arg(short, long)]
    long: bool,
    /// The whole tree below, each entry with its path.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Sizes with units.
    #[arg(short = 'h', long)]
    human: bool,
    /// Ask the store even if the listing at hand is fresh.
    #[arg(long)]
    refresh: bool,
    /// Print help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

pub(super) async fn run(session: &mut Session, args: &LsArgs) -> Result<()> {
    let titles = args.paths.len() > 1 && !session.out.is_json();
    let mut first = true;
    super::for_each_path(session, &args.paths, async |session, path| {
        let attr = session.stat(path).await?;
        if attr.kind != FileKind::Directory {
            return print(&mut session.out, args, &path.to_bytes(), &path.to_bytes(), &attr);
        }
        if titles {
            let gap = if first { "" } else { "\n" };
            session.out.line(&format!("{gap}{}:", escape(&path.to_bytes())))?;
        }
        first = false;
        let options = ListOptions { recursive: args.recursive, refresh: args.refresh, ..ListOptions::default() };
        let list = session
            .list(path, options, |out, entry| print(out, args, &below(path, &entry.name), &entry.name, &entry.attr));
        list.await
    })
    .await
}

fn print(out: &mut Output, args: &LsArgs, path: &[u8], shown: &[u8], attr: &Attr) -> Result<()> {
    if out.is_json() {
        out.json(&EntryJson::new(path, attr))
    } else if args.long {
        out.line(&long_line(shown, attr, args.human))
    } else {
        out.line(&escape(shown))
    }
}
