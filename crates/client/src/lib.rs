//! The Headpond SDK: resolve, list, open, read, load and free.
