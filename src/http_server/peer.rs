//! Peer of a connection: the local user or the address at its other end.

use std::net::IpAddr;

/// The other end of a connection. The listener stores it in the extensions of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, connected to the Unix socket.
    Socket {
        /// Its user id, where the kernel reports one that this user namespace maps.
        uid: Option<u32>,
    },
    /// A client that is connected over TCP, from this address.
    Tcp(IpAddr),
}
