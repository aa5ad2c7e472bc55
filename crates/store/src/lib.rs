//! The page store of a worker: files, index, checksums and eviction.
