//! Loopback ports for servers.

use std::net::TcpListener;
use std::ops::Range;

use crate::Result;
use crate::error::io;

/// Where they are chosen: below the ports that Linux gives to connections by itself, 32768 and up by default
/// (`net.ipv4.ip_local_port_range`). A connection of anybody could take one of those between its choice and its use.
const CHOSEN_FROM: Range<u16> = 10_000..32_000;
const TRIES: u32 = 1000;

/// A port that is free now.
///
/// # Errors
/// [`crate::Error::Io`] when there is none.
pub fn free_port() -> Result<u16> {
    free_ports_in_a_row(1)
}

/// Ports that are free now. All are held until the last is chosen, so that they differ.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held = (0..count).map(|_| hold(1)).collect::<Result<Vec<_>>>()?;
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

/// The first of so many ports in a row that are free now.
pub(crate) fn free_ports_in_a_row(count: u16) -> Result<u16> {
    Ok(hold(count)?.0)
}

/// Takes ports in a row, by chance: many processes choose at once.
fn hold(count: u16) -> Result<(u16, Vec<TcpListener>)> {
    let room = CHOSEN_FROM.end - CHOSEN_FROM.start - count;
    let mut tries = 1;
    loop {
        let chance = uuid::Uuid::new_v4().into_bytes();
        let first = CHOSEN_FROM.start + u16::from_be_bytes([chance[0], chance[1]]) % room;
        let ports = first..first + count;
        match ports.map(|port| TcpListener::bind(("127.0.0.1", port))).collect::<std::io::Result<_>>() {
            Ok(listeners) => return Ok((first, listeners)),
            Err(error) if tries == TRIES => return Err(io("find free ports")(error)),
            Err(_) => tries += 1,
        }
    }
}
