//! What a store is opened with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The directories of a [`crate::PageStore`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// At least one. Contents are spread over them by free capacity; each content lies in one. Needs a restart.
    pub dirs: Vec<DirConfig>,
}

/// One directory of cached pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirConfig {
    /// Made (mode 0700) if missing. Only one process may have it open. Needs a restart.
    pub path: PathBuf,
    /// Bytes of pages kept, each page rounded up to 4 KiB; the index comes on top, about 40 to 120 bytes a page. More keeps
    /// more and costs up to 64 bytes of memory a page. Needs a restart; when smaller than before, the excess is evicted.
    pub capacity_bytes: u64,
}
