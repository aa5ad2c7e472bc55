//! How processes of Headpond reach each other: in plaintext, or over TLS on which both sides show a certificate.
//!
//! Invariants:
//! 1. A [`Transport`] with TLS never speaks or takes plaintext, and takes nobody without a certificate of its CA.
//! 2. What the holder of a certificate may do stands in the certificate alone ([`Role`]); every request is judged by it
//!    ([`Peer`]), and what names no role may do nothing.
//! 3. No byte of a private key leaves this crate: not in an error, nor in `Debug`.

mod accept;
mod config;
mod dial;
mod files;
mod link;
mod peer;
mod refusals;
mod role;
mod transport;

pub use accept::{Connection, Incoming};
pub use config::TlsConfig;
pub use link::{Link, Neighbours, dialled, is_of_this_process};
pub use peer::Peer;
pub use role::{Role, RoleError, User};
pub use transport::Transport;

#[cfg(test)]
mod tests;
