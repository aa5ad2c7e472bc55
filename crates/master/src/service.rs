//! The gRPC services: messages in, calls to the parts, messages out. They decide nothing.

mod admin;
mod asker;
mod check;
mod listing;
mod message;
mod namespace;
mod pending;
mod problems;
mod registry;
mod watch;
mod writing;

pub(crate) use admin::Admin;
pub(crate) use namespace::NamespaceService;
pub(crate) use problems::Decisions;
pub(crate) use registry::Registry;
pub(crate) use writing::WritingService;

use headpond_proto::{status, v1};
use headpond_transport::Peer;
use headpond_types::Error;
use tonic::{Request, Status};

/// The status that tells of `error`.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn refuse(error: Error) -> Status {
    status::from_error(&error)
}

/// What is asked, with the caller for whom it counts.
fn asked<T>(request: Request<T>, caller: impl FnOnce(&mut T) -> &mut Option<v1::Caller>) -> Result<T, Status> {
    let peer = Peer::of(&request).map_err(refuse)?;
    let mut asked = request.into_inner();
    let caller = caller(&mut asked);
    *caller = peer.caller(caller.take()).map_err(refuse)?;
    Ok(asked)
}
