//! Under stores: the [`UnderStore`] trait, drivers and wrappers.

mod error;
mod object;
mod store;

pub use error::{UfsError, UfsErrorKind};
pub use object::{Capabilities, Key, ListPage, ListRequest, Listed, ObjectMeta, Precondition};
pub use store::{BodyStream, UnderStore};
