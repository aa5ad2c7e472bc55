//! The unix socket for clients on this node: cache files are lent as descriptors, so that no data crosses a socket.

mod lease;
mod listener;
mod session;

pub(crate) use listener::Listener;
