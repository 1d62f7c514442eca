//! A TCP port that refuses connections.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port that is bound and not listened on: connections are refused, and no other test is given the port meanwhile.
pub struct ClosedPort(TcpSocket);

impl ClosedPort {
    pub fn bind() -> ClosedPort {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        ClosedPort(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("its address")
    }
}
