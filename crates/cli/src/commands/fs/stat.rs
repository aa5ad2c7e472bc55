//! `headpond fs stat`.

use clap::Args;
use headpond_types::NsPath;

use crate::{
    failure::Result,
    output::{EntryJson, escape, kind_name, moment, size},
    session::Session,
};

/// Show everything known of a file or directory.
#[derive(Debug, Args)]
pub(super) struct StatArgs {
    /// Files or directories.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<NsPath>,
}

pub(super) async fn run(session: &mut Session, args: &StatArgs) -> Result<()> {
    super::for_each_path(session, &args.paths, async |session, path| {
        let attr = session.stat(path).await?;
        let out = &mut session.out;
        if out.is_json() {
            return out.json(&EntryJson::new(&path.to_bytes(), &attr));
        }
        out.line(&format!("path     {}", escape(&path.to_bytes())))?;
        out.line(&format!("type     {}", kind_name(attr.kind)))?;
        out.line(&format!("size     {} ({})", attr.size, size(attr.size, true)))?;
        out.line(&format!("mode     {:04o}  uid {}  gid {}", attr.mode, attr.uid, attr.gid))?;
        out.line(&format!("changed  {}", moment(attr.mtime)))?;
        out.line(&format!("accessed {}", moment(attr.accessed())))?;
        out.line(&format!("inode    {} in mount {}", attr.inode, attr.mount))?;
        if let Some(content) = attr.content {
            out.line(&format!("version  {}", attr.version))?;
            out.line(&format!("content  {content}"))?;
        }
        Ok(())
    })
    .await
}
