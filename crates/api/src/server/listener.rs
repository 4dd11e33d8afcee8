//! Accepted connections, as the server wants them.
//!
//! The system makes sockets with Nagle's algorithm and without keepalive. For small
//! answers Nagle's algorithm costs up to 40 ms against a client that delays its acknowledgements, and a process that is
//! out of file descriptors would spin.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How long a connection may be silent before the system asks whether the other side still exists.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);

/// How often it asks then, until it gives the connection up (after nine questions on Linux). Clients that vanished
/// would otherwise keep their file descriptor for as long as the process lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after accepting failed: most likely there is no file descriptor left, and one must close first.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// How many connections may wait to be accepted. When many come at once, one that finds no place is tried again by its
/// client's system only after a second. The system caps it (`net.core.somaxconn`, 4096 on Linux).
const BACKLOG: u32 = 4_096;

/// Accepts TCP connections without Nagle's algorithm and with keepalive.
#[derive(Debug)]
pub struct Listener {
    inner: TcpListener,
    address: SocketAddr,
}

/// A connection, and from where to where it leads.
pub(super) struct Accepted {
    pub stream: TcpStream,
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

impl Listener {
    /// Listens on `address`, a `host:port`; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// When the address is none of this machine, or taken.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let inner = listen(address).await?;
        let address = inner.local_addr()?;
        Ok(Self { inner, address })
    }

    /// Where it listens, the port being the real one.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection. What goes wrong on the way to it is logged.
    pub(super) async fn accept(&self) -> Accepted {
        loop {
            match self.inner.accept().await {
                Ok((stream, remote)) => match prepare(&stream) {
                    Ok(()) => return Accepted { stream, local: self.address, remote },
                    // It has gone already.
                    Err(error) => tracing::debug!(%error, "cannot prepare a connection"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        }
    }
}

/// Listens on the first of the addresses that can be had.
async fn listen(address: &str) -> io::Result<TcpListener> {
    let mut error = io::Error::new(io::ErrorKind::InvalidInput, "it is no address");
    for address in tokio::net::lookup_host(address).await? {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A server that is started again finds its port free, though connections of before have not quite ended.
        socket.set_reuseaddr(true)?;
        match socket.bind(address).and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_may_wait_to_be_accepted() {
        let acceptor = Listener::bind("127.0.0.1:0").await.unwrap();
        let begun = std::time::Instant::now();
        let mut waiting = Vec::new();
        // A listener's usual 1,024 places would make those who come after them wait for a second.
        for _ in 0..1_500 {
            waiting.push(TcpStream::connect(acceptor.address()).await.unwrap());
        }
        assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn accepted_connections_send_at_once_and_notice_when_the_client_vanishes() {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        assert_ne!(listener.address().port(), 0);
        let client = TcpStream::connect(listener.address()).await.unwrap();
        let Accepted { stream, remote, .. } = listener.accept().await;
        assert_eq!(remote, client.local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }
}
