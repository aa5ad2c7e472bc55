//! What all requests need, and how they are answered alike.

use std::sync::Arc;

use fuser::{BackingId, Errno, ReplyOpen};
use headpond_runtime::Tasks;
use headpond_types::{Error, ErrorKind};
use tokio::runtime::Handle;

use super::{answer, complaints::Complaints, passthrough::Passthrough, session::SessionOptions};
use crate::{
    errno,
    fs::{FileSystem, Mode, Opening, READER, Refused},
    metrics::Metrics,
    source::{Loan as _, Source, SourceFile},
};

/// What all requests need.
#[derive(Debug)]
pub(super) struct Shared<S: Source> {
    pub(super) fs: Arc<FileSystem<S, BackingId>>,
    pub(super) options: SessionOptions,
    pub(super) passthrough: Arc<Passthrough>,
    pub(super) metrics: Metrics,
    pub(super) runtime: Handle,
    pub(super) tasks: Tasks,
    pub(super) complaints: Complaints,
}

impl<S: Source> Shared<S> {
    /// What the kernel is told of `error`, which is counted and logged.
    pub(super) fn errno(&self, op: &'static str, error: &Error) -> Errno {
        let errno = errno::of(error.kind());
        self.metrics.error(errno::name(errno));
        self.complaints.tell(op, error);
        Errno::from_i32(errno)
    }

    /// The same of a file that has a name: what cannot be found are bytes of the version that was asked for, and not the file.
    pub(super) fn errno_of_bytes(&self, op: &'static str, error: &Error) -> Errno {
        if error.kind() != ErrorKind::NotFound {
            return self.errno(op, error);
        }
        self.complaints.tell(op, error);
        self.refusal(libc::ESTALE)
    }

    /// An errno that no kind of error stands for.
    pub(super) fn refusal(&self, errno: i32) -> Errno {
        self.metrics.error(errno::name(errno));
        Errno::from_i32(errno)
    }

    /// What an open gets that cannot be had at that node. After `ESTALE` the kernel looks the name up again, and finds the other node.
    pub(super) fn refused(&self, refused: Refused) -> Errno {
        match refused {
            Refused::PassedThrough => self.refusal(libc::ETXTBSY),
            Refused::Elsewhere => Errno::from_i32(libc::ESTALE),
        }
    }

    pub(super) fn answer_open(&self, node: u64, opening: Opening<S::File>, reply: ReplyOpen) {
        let register = |loan: &_| self.register(loan, &reply);
        match self.fs.admit(node, opening, register) {
            Ok(admitted) => {
                self.count_open(&admitted.mode);
                answer::opened(reply, READER, &admitted);
            }
            Err(refused) => reply.error(self.refused(refused)),
        }
    }

    pub(super) fn count_open<B>(&self, mode: &Mode<B>) {
        match mode {
            Mode::Passthrough(_) => self.metrics.passthrough_opens.inc(),
            Mode::Beside(_) | Mode::Cached => self.metrics.cached_opens.inc(),
        };
    }

    fn register(&self, loan: &<S::File as SourceFile>::Loan, reply: &ReplyOpen) -> Option<BackingId> {
        self.passthrough.register(loan.file(), |file| reply.open_backing(file))
    }
}
