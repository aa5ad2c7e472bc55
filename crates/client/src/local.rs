//! A content's cache file, lent by the worker of this node.

use std::fs::File;

/// The cache file of one content, open for reading. While any clone lives the worker punches no hole into it; when the last
/// one is dropped it is given back.
#[derive(Debug)]
pub struct LocalFile {
    file: File,
}

impl LocalFile {
    /// The descriptor. Ranges that are not known to be present read as zeros: read them through
    /// [`crate::OpenFile::read_at`], or the file directly once [`LocalFile::is_complete`].
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether every page is present and verified. Once true it stays true as long as this value lives.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        false
    }
}
