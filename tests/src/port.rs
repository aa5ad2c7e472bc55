//! Free ports.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// First port that is given out.
const FIRST: u32 = 10_240;

/// Ports given out: those below the range from which the kernel takes ports for outgoing connections (ip(7),
/// `ip_local_port_range`), which would otherwise take one of ours before its server does.
const COUNT: u32 = 32_768 - FIRST;

/// Apart from each other's by at least this many ports, processes that run at the same time rarely ask for the same.
const STRIDE: u32 = 97;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A TCP port on 127.0.0.1 that nobody listens on now, and that this process is given only once.
///
/// # Errors
/// No port is free.
pub fn free_port() -> Result<u16> {
    let start = std::process::id().wrapping_mul(STRIDE);
    let free = (0..COUNT).find_map(|_| {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).ok()?;
        TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port)
    });
    free.context("no free port on 127.0.0.1")
}
