//! Headpond's wire: generated messages and services ([`v1`]), conversions to and from [`headpond_types`], signed grants
//! ([`grant`]), frames of the unix socket ([`frames`]) and the one table between error kinds and gRPC statuses ([`status`]).

mod convert;
pub mod frames;
pub mod grant;
pub mod status;

/// Messages and services of `proto/headpond/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "generated; the documentation stands in proto/"
)]
pub mod v1 {
    tonic::include_proto!("headpond.v1");
}

pub use convert::{InvalidMessage, failure, file_kind, from_failure};

/// Largest message either side accepts, in bytes: a page of a listing or a chunk of data fits several times.
pub const MAX_MESSAGE: usize = 16 << 20;
