//! Loopback ports for servers.

use std::net::TcpListener;

use crate::Result;
use crate::error::io;

/// Ports that are free now. All are held until the last is chosen, so that they differ.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<_>>()
        .map_err(io("find free ports"))?;
    listeners.iter().map(|listener| Ok(listener.local_addr().map_err(io("find free ports"))?.port())).collect()
}

/// A port that is free now.
///
/// # Errors
/// [`crate::Error::Io`] when there is none.
pub fn free_port() -> Result<u16> {
    Ok(free_ports(1)?.into_iter().next().unwrap_or_default())
}
