//! Reading and writing through the worker of this node: it lends the descriptor of the cache file, or of the staged one, over its unix
//! socket, and is asked only to make ranges present. No data crosses the socket.
//!
//! Lock order: none of the locks here is taken while another is held, and none is held across an await.

mod connection;
mod file;
mod kept;
mod places;
mod present;
mod staged;
mod workers;

pub use file::LocalFile;

pub(crate) use connection::Connection;
pub(crate) use places::{Place, Places};
pub(crate) use staged::StagedFile;
pub(crate) use workers::LocalWorkers;
