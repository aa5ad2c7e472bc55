//! The gRPC services: messages in, calls to the parts, messages out. They decide nothing.

mod admin;
mod listing;
mod message;
mod namespace;
mod registry;
mod watch;

pub(crate) use admin::Admin;
pub(crate) use namespace::NamespaceService;
pub(crate) use registry::Registry;

use headpond_proto::status;
use headpond_types::Error;
use tonic::Status;

/// The status that tells of `error`.
#[expect(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn refuse(error: Error) -> Status {
    status::from_error(&error)
}
