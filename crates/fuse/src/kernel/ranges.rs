//! Requests for stretches of files: finding them, and copying them.

use fuser::{Errno, ReplyLseek, ReplyWrite, Request};
use headpond_client::Stretch;

use super::{adapter::Adapter, sender::is_root};
use crate::{fs::Spot, metrics::Op, source::Source};

impl<S: Source> Adapter<S> {
    /// Answers where the next data, or the next hole, begins.
    pub(super) fn seek(&self, node: u64, handle: u64, offset: i64, whence: i32, reply: ReplyLseek) {
        self.0.metrics.request(Op::Other);
        let what = match whence {
            libc::SEEK_DATA => Stretch::Data,
            libc::SEEK_HOLE => Stretch::Hole,
            _ => return reply.error(self.0.refusal(libc::EINVAL)),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        self.spawn(async move |shared| match shared.fs.next_stretch(node, handle, offset, what).await {
            Ok(next) => match next.and_then(|next| i64::try_from(next).ok()) {
                Some(next) => reply.offset(next),
                None => reply.error(Errno::ENXIO),
            },
            Err(error) => reply.error(shared.errno("lseek", &error)),
        });
    }

    /// Copies from one file to another, or within one.
    pub(super) fn copy_range(&self, request: &Request, from: Spot, to: Spot, length: u64, reply: ReplyWrite) {
        if let Err(errno) = self.change() {
            return reply.error(errno);
        }
        if !self.0.fs.may_copy_from(from) {
            // The kernel copies by itself what only it can read.
            return reply.error(Errno::EOPNOTSUPP);
        }
        let is_privileged = is_root(request);
        self.spawn(async move |shared| {
            if !is_privileged && let Err(error) = shared.fs.drop_rights(to.node).await {
                return reply.error(shared.errno("copy_file_range", &error));
            }
            match shared.fs.copy(from, to, length).await {
                Ok(copied) => {
                    shared.metrics.bytes_written.inc_by(copied.into());
                    reply.written(copied);
                }
                Err(error) => reply.error(shared.errno("copy_file_range", &error)),
            }
        });
    }
}
