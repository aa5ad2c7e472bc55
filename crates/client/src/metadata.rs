//! Questions about names and inodes: from memory, from the master, or without a master from what was known.

use std::{sync::Arc, time::Duration};

use headpond_proto::v1;
use headpond_types::{Attr, Error, ErrorKind, InodeId, Name, NsPath, Result};

use crate::{
    Lookup,
    batching::{self, Way},
    master::{self, CallError, Retry},
    shared::Shared,
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question<'a> {
    /// What is at a path.
    Path(&'a NsPath),
    /// What a name is in a directory.
    Name(InodeId, &'a Name),
    /// The attributes of an inode.
    Inode(InodeId),
}

impl Shared {
    /// The valid answer in memory, or else the master's; with no master to be reached, what was known until lately.
    pub(crate) async fn ask(self: &Arc<Self>, question: Question<'_>) -> Result<Lookup> {
        if let Some(found) = self.cached(question) {
            return Ok(found);
        }
        let Some(known) = self.known(question) else {
            return Ok(self.ask_master(question, Retry::Yes).await?);
        };
        if self.masters.reach.is_lost() {
            return Ok(known);
        }
        match self.ask_master(question, Retry::No).await {
            Err(failed) if failed.unreachable => Ok(known),
            // A master answered that something behind it is down: that is to be retried as ever.
            Err(failed) if failed.error.kind() == ErrorKind::Unavailable => {
                Ok(self.ask_master(question, Retry::Yes).await?)
            }
            answer => Ok(answer?),
        }
    }

    fn cached(&self, question: Question<'_>) -> Option<Lookup> {
        match question {
            Question::Path(path) => walk(path, |parent, name| self.cache.name(parent, name)),
            Question::Name(parent, name) => self.cache.name(parent, name.as_bytes()),
            Question::Inode(inode) => self.cache.attr(inode),
        }
    }

    fn known(&self, question: Question<'_>) -> Option<Lookup> {
        let window = self.config.offline_reads;
        match question {
            Question::Path(path) => walk(path, |parent, name| self.cache.known_name(parent, name, window)),
            Question::Name(parent, name) => self.cache.known_name(parent, name.as_bytes(), window),
            Question::Inode(inode) => self.cache.known_attr(inode, window),
        }
    }

    /// The master's answer; if that is an inode that a worker found outdated, the master's after asking the under store.
    async fn ask_master(self: &Arc<Self>, question: Question<'_>, retry: Retry) -> Result<Lookup, CallError> {
        let found = self.ask_once(question, retry, false).await?;
        let suspect = found.attr.as_ref().map(|attr| attr.inode).filter(|inode| self.cache.is_suspect(*inode));
        let Some(suspect) = suspect else { return Ok(found) };
        let found = self.ask_once(question, retry, true).await?;
        self.cache.clear(suspect);
        Ok(found)
    }

    async fn ask_once(
        self: &Arc<Self>,
        question: Question<'_>,
        retry: Retry,
        refresh: bool,
    ) -> Result<Lookup, CallError> {
        match question {
            Question::Path(path) => {
                let ticket = self.cache.ticket();
                let path = bytes::Bytes::from(path.to_bytes());
                let call = |channel| {
                    let request = v1::ResolveRequest { path: path.clone(), caller: self.caller.clone(), refresh };
                    async move { master::namespace(channel).resolve(request).await }
                };
                let answer = self.masters.call("resolve", retry, call).await?;
                let answered = ticket.answered(answer.as_of, Duration::from_millis(answer.valid_ms));
                Ok(match attr_of(answer.attr)? {
                    Some(attr) => self.cache.put_attr(&answered, attr),
                    None => self.cache.absent(&answered),
                })
            }
            Question::Name(parent, name) => {
                let _permit = match refresh {
                    true => None,
                    false => match batching::lookup(self, parent, name).await {
                        Way::Answered(found) => return Ok(found),
                        Way::Alone(permit) => permit,
                    },
                };
                let ticket = self.cache.ticket();
                let call = |channel| {
                    let name = bytes::Bytes::copy_from_slice(name.as_bytes());
                    let request = v1::LookupRequest { parent: parent.0, name, caller: self.caller.clone(), refresh };
                    async move { master::namespace(channel).lookup(request).await }
                };
                let answer = self.masters.call("lookup", retry, call).await?;
                let answered = ticket.answered(answer.as_of, Duration::from_millis(answer.valid_ms));
                Ok(self.cache.put_name(&answered, parent, name.as_bytes(), attr_of(answer.attr)?))
            }
            Question::Inode(inode) => {
                let ticket = self.cache.ticket();
                let call = |channel| {
                    let request = v1::GetAttrRequest { inode: inode.0, refresh, caller: self.caller.clone() };
                    async move { master::namespace(channel).get_attr(request).await }
                };
                let answer = self.masters.call("getattr", retry, call).await?;
                let attr = attr_of(answer.attr)?.ok_or_else(|| gone(inode))?;
                let answered = ticket.answered(answer.as_of, Duration::from_millis(answer.valid_ms));
                Ok(self.cache.put_attr(&answered, attr))
            }
        }
    }
}

/// The attributes of a message.
pub(crate) fn attr_of(attr: Option<v1::Attr>) -> Result<Option<Arc<Attr>>> {
    Ok(attr.map(Attr::try_from).transpose()?.map(Arc::new))
}

/// The error for an inode that no longer exists.
pub(crate) fn gone(inode: InodeId) -> Error {
    Error::new(ErrorKind::Stale, format!("inode {inode} was replaced or removed: look its name up again"))
}

/// Follows `path` from the root by `step`; valid for as long as the step that expires first.
fn walk(path: &NsPath, step: impl Fn(InodeId, &[u8]) -> Option<Lookup>) -> Option<Lookup> {
    let mut found: Option<Lookup> = None;
    for name in path.names() {
        let parent = found.as_ref().map_or(Some(InodeId::ROOT), |found| Some(found.attr.as_ref()?.inode))?;
        let mut next = step(parent, name.as_bytes())?;
        if let Some(found) = found {
            next.valid_until = next.valid_until.min(found.valid_until);
        }
        found = Some(next);
    }
    found
}
