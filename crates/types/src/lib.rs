//! Words of Headpond as types: ids, names and paths, attributes, page arithmetic, the ring and error kinds.
//!
//! Nothing here does IO, reads a clock or is async, so every other crate may depend on it.

mod attr;
mod error;
mod id;
mod page;
mod path;
mod rename;
mod ring;
mod time;

pub use attr::{Attr, FileKind};
pub use error::{Error, ErrorKind, Result};
pub use id::{ContentId, Epoch, InodeId, MountId, ParseContentIdError, RequestId, WorkerId};
pub use page::{BLOCK_SIZE, ByteRange, PAGE_SIZE, block_of, page_count, page_len, page_range, pages_of};
pub use path::{Name, NsPath, PathError};
pub use rename::RenameMode;
pub use ring::{Member, Ring};
pub use time::Timestamp;
