//! The FUSE mount: kernel protocol to client, passthrough.
