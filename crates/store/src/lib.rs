//! The page store of a worker: files, index, checksums and eviction.
//!
//! Each configured directory holds one sparse file per content, as long as the content, whose pages
//! ([`headpond_types::PAGE_SIZE`]) are written in place, and an index that says which pages are there and what their
//! CRC32C is. A complete content is therefore one plain local file that can be lent to another process or to the kernel.
//!
//! # Invariants
//!
//! 1. A page is *present* only after all its bytes were handed to the kernel and its index record was appended, in this
//!    order; so no death of the process leaves a page claimed that is not wholly there. Power loss may: therefore pages
//!    found at open are *unverified* until their checksum was compared.
//! 2. The bytes of a present page are never written again. Its hole is punched only after it stopped being present, the
//!    index says so, and nobody reads or writes it.
//! 3. No hole is punched in the file of a content that is lent, or that an earlier process lent: descriptors outlive the
//!    process that handed them out. Such a content is dropped whole, by unlink, which open descriptors survive; a successor of the
//!    same id gets a file of its own (the generation in the file's name).
//! 4. Bytes leave through [`Content::read`] only from pages whose checksum was compared since the store was opened.
//! 5. A [`Staging`] file belongs to no content, is never evicted, and is removed at the next open, unless it was made durable as one. It becomes a
//!    content's file when nobody writes it any more ([`PageStore::adopt`]). What it was made durable as stays readable, whatever is written into it since.
//!
//! # Locks
//!
//! All are short; none is held across IO except a directory's index lock over one append of 40 bytes, and its removal lock
//! (shared by evictors, exclusive only when the directory is closed). Order: removal lock; then one of map shard, policy
//! and index; then a content's state or a staged file's charge, leaves.
//!
//! # Blocking
//!
//! Everything is synchronous. Methods that do disk IO say so ("Does IO"); call these where blocking is allowed.

mod config;
mod content;
mod dir;
mod error;
mod index;
#[cfg(test)]
mod memory;
mod pages;
mod policy;
mod scrub;
mod shared;
mod staging;
mod store;
mod usage;

pub use config::{DirConfig, StoreConfig};
pub use content::{Content, Hold, Loan, PageWriter};
pub use error::{Result, StoreError};
pub use scrub::Scrubbed;
pub use staging::{Held, Staging, checksums};
pub use store::PageStore;
pub use usage::{Counters, DirUsage, Usage};
