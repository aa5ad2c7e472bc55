//! Free ports.

use std::net::TcpListener;

use anyhow::{Context as _, Result};

/// A TCP port on 127.0.0.1 that nobody listens on now. Another process may take it before its user does; the kernel hands
/// ports out in an order that makes this rare.
///
/// # Errors
/// No port is free.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?.port())
}
