//! Acknowledging bytes that no store has: they are on the disk, as a content, before it is answered.
//!
//! The order is: bytes and what they are (one `fsync`), the answer, and only then the master's journal. So whatever the namespace says of the content
//! is true on this worker, be it killed at any point; and what the namespace does not say yet is thrown away when the master is asked.

use std::sync::Arc;

use fail::fail_point;
use headpond_proto::v1::{self, PersistGrant, PersistResponse};
use headpond_types::{Error, ErrorKind, Result};

use super::{
    Stager,
    head::Head,
    mirrors::{self, Wish},
    persist::content_of,
    stored,
    table::Staged,
};

/// Makes all of a staged file durable, as the content of `grant`, and has readers find it. Whoever calls has the file's turn.
///
/// # Errors
/// `InvalidArgument` when another length is staged, `ResourceExhausted` without room, `Unavailable` before the worker has an id.
pub(super) async fn keep(
    stager: &Stager,
    staged: &Arc<Staged>,
    grant: PersistGrant,
    (length, copies): (u64, Option<Wish>),
    heads: &[v1::Head],
) -> Result<PersistResponse> {
    let content = content_of(stager, &grant)?;
    let me = stager.cluster.me().ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "this worker has not reached a master yet and cannot hold what no store has")
    })?;
    let found = staged.on_file(move |file| {
        // If it was changed since it was to be made durable, what it was is known.
        let (found, is_known) = (file.len()?, file.hold(content).is_some());
        let is_whole = is_known || found >= length;
        if is_whole {
            file.make_durable(content, length)?;
        }
        Ok((found, is_whole))
    });
    let (found, is_whole) = found.await?;
    if !is_whole {
        let message = format!("{found} bytes are staged and not {length}: stage all of them first");
        return Err(Error::new(ErrorKind::InvalidArgument, message));
    }
    fail_point!("durable::kept");
    let mut holders = vec![me.0];
    if let Some(wish) = &copies {
        holders.extend(mirrors::copy(stager, staged, &grant, wish).await?);
    }
    staged.touch();
    stager.later.made_durable(content, heads, Head::original(stager, heads));
    stored::show_dirty(stager, staged, content, length);
    Ok(PersistResponse { size: length, mtime_ns: stager.clock.now().0, version: String::new(), holders, copied: 0 })
}
