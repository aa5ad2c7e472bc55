//! Opening files: attributes, grant, and the descriptor of the cache file if the worker of this node has one.

use std::{sync::Arc, time::Duration};

use headpond_proto::v1;
use headpond_types::{Attr, Error, ErrorKind, FileKind, InodeId, Result};

use crate::{
    Lookup, OpenFile,
    grant::Grant,
    master::{self, CallError, Retry},
    metadata::{attr_of, gone},
    shared::Shared,
    source::Source,
};

/// The open file in memory if the attributes are valid. Never waits. Not one whose cache file was partial: a complete one is
/// worth the question, since the kernel can read it by itself.
pub(crate) fn cached(shared: &Shared, inode: InodeId) -> Option<Arc<OpenFile>> {
    let attr = shared.cache.attr(inode)?.attr?;
    kept(shared, &attr).filter(|file| !file.is_partial())
}

/// Opens `inode` as it is now.
pub(crate) async fn open(shared: &Arc<Shared>, inode: InodeId) -> Result<Arc<OpenFile>> {
    if let Some(Lookup { attr: Some(attr), .. }) = shared.cache.attr(inode) {
        if let Some(file) = kept(shared, &attr) {
            file.check_local().await;
            return Ok(file);
        }
        let grant = attr.content.and_then(|content| shared.grants.get(&content)).filter(|grant| grant.is_fresh());
        if let Some(grant) = grant.filter(|grant| attr.dirty || !grant.is_dirty()) {
            return build(shared, attr, grant).await;
        }
    }
    let (attr, grant) = ask(shared, inode).await?;
    match kept(shared, &attr) {
        Some(file) => {
            file.source().hold(grant);
            file.check_local().await;
            Ok(file)
        }
        None => build(shared, attr, grant).await,
    }
}

/// Opens the version that `attr` tells of, replaced or not, if the right to read it is still held.
pub(crate) async fn reopen(shared: &Arc<Shared>, attr: Arc<Attr>) -> Result<Arc<OpenFile>> {
    if let Some(file) = kept(shared, &attr) {
        return Ok(file);
    }
    let grant = held(shared, &attr).ok_or_else(|| gone(attr.inode))?;
    build(shared, attr, grant).await
}

/// Attributes and grant of `inode` now, from the master; with no master to be reached, those known until lately.
pub(crate) async fn ask(shared: &Shared, inode: InodeId) -> Result<(Arc<Attr>, Arc<Grant>)> {
    let Some(known) = known(shared, inode) else { return Ok(ask_master(shared, inode, Retry::Yes).await?) };
    if shared.masters.reach.is_lost() {
        return Ok(known);
    }
    match ask_master(shared, inode, Retry::No).await {
        Err(failed) if failed.unreachable => Ok(known),
        // A master answered that something behind it is down: that is to be retried as ever.
        Err(failed) if failed.error.kind() == ErrorKind::Unavailable => {
            Ok(ask_master(shared, inode, Retry::Yes).await?)
        }
        answer => Ok(answer?),
    }
}

fn known(shared: &Shared, inode: InodeId) -> Option<(Arc<Attr>, Arc<Grant>)> {
    let attr = shared.cache.known_attr(inode, shared.config.offline_reads)?.attr?;
    let grant = held(shared, &attr)?;
    Some((attr, grant))
}

/// A grant that workers still accept.
fn held(shared: &Shared, attr: &Attr) -> Option<Arc<Grant>> {
    shared.grants.get(&attr.content?).filter(|grant| grant.is_accepted())
}

async fn ask_master(shared: &Shared, inode: InodeId, retry: Retry) -> Result<(Arc<Attr>, Arc<Grant>), CallError> {
    let ticket = shared.cache.ticket();
    let refresh = shared.cache.is_suspect(inode);
    let call = |channel| {
        let request =
            v1::OpenRequest { inode: inode.0, path: bytes::Bytes::new(), caller: shared.caller.clone(), refresh };
        async move { master::namespace(channel).open(request).await }
    };
    let answer = shared.masters.call("open", retry, call).await?;
    if refresh {
        shared.cache.clear(inode);
    }
    let attr = attr_of(answer.attr)?.ok_or_else(|| gone(inode))?;
    // Who reads no bytes needs no right to: of a file that was made and not written yet there is none.
    let granted = answer.grant.or_else(|| (attr.size == 0).then(v1::SignedGrant::default));
    let (Some(content), Some(signed)) = (attr.content, granted) else {
        let (kind, message) = match attr.kind {
            FileKind::Directory => (ErrorKind::IsADirectory, format!("inode {inode} is a directory: list it instead")),
            FileKind::File => (ErrorKind::Internal, format!("the master granted nothing for inode {inode}")),
            FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice(_)
            | FileKind::BlockDevice(_) => {
                (ErrorKind::InvalidArgument, format!("inode {inode} is not a file and has no bytes to read"))
            }
        };
        return Err(Error::new(kind, message).into());
    };
    let grant = Arc::new(Grant::new(&signed, ticket.asked(), Duration::from_millis(answer.grant_valid_ms), attr.dirty));
    shared.grants.insert(content, Arc::clone(&grant));
    let answered = ticket.answered(answer.as_of, Duration::from_millis(answer.valid_ms));
    shared.cache.put_attr(&answered, Arc::clone(&attr));
    Ok((attr, grant))
}

fn kept(shared: &Shared, attr: &Attr) -> Option<Arc<OpenFile>> {
    shared.open_files.get(attr.content?).filter(|file| file.attr().inode == attr.inode)
}

async fn build(shared: &Arc<Shared>, attr: Arc<Attr>, grant: Arc<Grant>) -> Result<Arc<OpenFile>> {
    let Some(content) = attr.content else {
        return Err(Error::new(ErrorKind::IsADirectory, format!("inode {} is not a file", attr.inode)));
    };
    let source = Arc::new(Source::new(Arc::clone(shared), attr, content, grant));
    let file = OpenFile::new(source).await?;
    // Who opened the same at the same time shares one file, and one loan.
    let kept = shared.open_files.keep(Arc::clone(&file));
    if kept.attr().inode == file.attr().inode { Ok(kept) } else { Ok(file) }
}
