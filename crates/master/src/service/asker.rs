//! In which session something is asked, and what it may believe of the answer.

use std::{future::Future, sync::Arc, time::Duration};

use headpond_types::{Attr, FileKind, InodeId, RequestId, Result};
use tonic::Request;

use crate::{
    core::Core,
    lookup::{Answer, Located},
    sessions::Sessions,
    walk::WalkPage,
    write::PATIENCE,
};

/// Metadata of calls: the session's id in decimal.
const SESSION: &str = "headpond-session";

/// Metadata of calls: how long an answer is waited for, in milliseconds.
const TIMEOUT: &str = "headpond-timeout";

/// How long what is in the way of `request` may be waited for, so that whoever asks is told of it before he waits no more.
pub(super) fn patience<T>(request: &Request<T>) -> Duration {
    let timeout = request.metadata().get(TIMEOUT).and_then(|timeout| timeout.to_str().ok()?.parse().ok());
    timeout.map_or(PATIENCE, |timeout| Duration::from_millis(timeout).mul_f64(0.75))
}

/// Who asks.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    sessions: Arc<Sessions>,
    /// `None`: nobody who keeps an answer.
    session: Option<u64>,
}

impl Asker {
    /// Who makes `request`.
    pub(super) fn of<T>(core: &Core, request: &Request<T>) -> Self {
        let session = request.metadata().get(SESSION).and_then(|id| id.to_str().ok()?.parse().ok());
        Self { sessions: core.sessions.clone(), session }
    }

    /// Makes the change that `request` asks for, and waits until all others have heard of it.
    ///
    /// # Errors
    /// Those of `change`.
    pub(super) async fn settle<T>(&self, request: RequestId, change: impl Future<Output = Result<T>>) -> Result<T> {
        self.sessions.settle(request, self.session, change).await
    }

    /// What is answered of a name in `dir`.
    pub(super) fn named(&self, dir: InodeId, mut answer: Answer) -> Answer {
        if answer.attr.as_ref().is_some_and(has_other_names) {
            answer.valid = Duration::ZERO;
        }
        let found = answer.attr.as_ref().filter(|attr| attr.kind == FileKind::Directory).map(|attr| attr.inode);
        answer.valid = self.valid([Some(dir), found].into_iter().flatten(), answer.as_of, answer.valid);
        answer
    }

    /// What is answered of an inode.
    pub(super) fn located(&self, mut located: Located) -> Located {
        if has_other_names(&located.attr) {
            located.valid = Duration::ZERO;
        }
        located.valid = self.valid(dirs_of(&located.attr), located.as_of, located.valid);
        located
    }

    /// What is answered of a path.
    pub(super) fn resolved(&self, mut answer: Answer) -> Answer {
        if answer.attr.as_ref().is_some_and(has_other_names) {
            answer.valid = Duration::ZERO;
        }
        if let Some(attr) = &answer.attr {
            answer.valid = self.valid(dirs_of(attr), answer.as_of, answer.valid);
        }
        answer
    }

    /// A page of a listing.
    pub(super) fn listed(&self, mut page: WalkPage) -> WalkPage {
        if page.entries.iter().any(|(_, attr)| has_other_names(attr)) {
            page.valid = Duration::ZERO;
        }
        let attrs = page.entries.iter().map(|(_, attr)| attr).chain(&page.directory);
        page.valid = self.valid(attrs.flat_map(dirs_of), page.as_of, page.valid);
        page
    }

    fn valid(&self, dirs: impl IntoIterator<Item = InodeId>, as_of: u64, valid: Duration) -> Duration {
        let Some(session) = self.session.filter(|_| !valid.is_zero()) else { return valid };
        if self.sessions.may_believe(session, dirs, as_of, valid) { valid } else { Duration::ZERO }
    }
}

/// Whether a change under a name that nobody knows of makes attributes wrong: such are not believed for any time.
fn has_other_names(attr: &Attr) -> bool {
    attr.kind != FileKind::Directory && attr.nlink > 1
}

/// The directories whose changes make attributes wrong.
fn dirs_of(attr: &Attr) -> impl Iterator<Item = InodeId> {
    [attr.parent].into_iter().chain((attr.kind == FileKind::Directory).then_some(attr.inode))
}
