//! Under stores: the [`UnderStore`] trait, its drivers and wrappers.
//!
//! Drivers speak to one store and never retry; wrappers are stores themselves and add one thing each. [`connect`] puts them
//! together: bandwidth around retry around parallel requests around metering around the driver. So the deadline covers the wait for a
//! permit but not for bandwidth, and every try is counted. [`Abandoned`] sees to it that uploads end.

mod abandoned;
mod around;
mod connect;
mod credentials;
mod error;
mod faulty;
mod limit;
mod listing;
mod local;
mod memory;
mod metered;
mod meters;
mod object;
mod op;
mod options;
mod retry;
#[cfg(feature = "s3")]
mod s3;
mod store;
mod uri;

pub use abandoned::{Abandoned, Noted, UploadState};
pub use connect::{connect, connect_metered};
pub use credentials::{CredentialSource, Credentials, NoCredentials};
pub use error::{UfsError, UfsErrorKind};
pub use faulty::{Fault, Faulty};
pub use limit::{DEFAULT_REQUESTS, Limit};
pub use local::Local;
pub use memory::Memory;
pub use metered::{Counters, Metered, Outcome};
pub use meters::Meters;
pub use object::{
    Capabilities, Key, Label, ListPage, ListRequest, Listed, ObjectMeta, Precondition, UploadMark, UploadPage, path_key,
};
pub use op::Op;
pub use retry::{Retry, RetryPolicy};
pub use store::{BodyStream, UnderStore};
pub use uri::{Scheme, StoreUri};
