//! Accepted connections, as the server wants them.
//!
//! poem leaves sockets as the system makes them and asks for the next one at once when accepting failed. For small
//! answers Nagle's algorithm costs up to 40 ms against a client that delays its acknowledgements, and a process that is
//! out of file descriptors would spin.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use poem::http::uri::Scheme;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::web::{LocalAddr, RemoteAddr};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};

/// How long a connection may be silent before the system asks whether the other side still exists.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);

/// How often it asks then, until it gives the connection up (after nine questions on Linux). Clients that vanished
/// would otherwise keep their file descriptor for as long as the process lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long to wait after accepting failed: most likely there is no file descriptor left, and one must close first.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Accepts TCP connections without Nagle's algorithm and with keepalive.
pub struct PromptAcceptor {
    inner: TcpAcceptor,
    address: SocketAddr,
}

impl PromptAcceptor {
    /// Listens on `address`, a `host:port`; port 0 picks a free one.
    pub async fn bind(address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { inner: TcpAcceptor::from_tokio(listener)?, address })
    }

    /// Where it listens, the port being the real one.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Acceptor for PromptAcceptor {
    type Io = TcpStream;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.inner.local_addr()
    }

    async fn accept(&mut self) -> io::Result<(TcpStream, LocalAddr, RemoteAddr, Scheme)> {
        let accepted = self.inner.accept().await;
        match &accepted {
            Ok((stream, ..)) => prepare(stream)?,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
        accepted
    }
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
    async fn accepted_connections_send_at_once_and_notice_when_the_client_vanishes() {
        let mut acceptor = PromptAcceptor::bind("127.0.0.1:0").await.unwrap();
        assert_ne!(acceptor.address().port(), 0);
        let client = TcpStream::connect(acceptor.address()).await.unwrap();
        let (stream, _, remote, _) = acceptor.accept().await.unwrap();
        assert_eq!(remote.0.as_socket_addr(), Some(&client.local_addr().unwrap()));
        assert!(stream.nodelay().unwrap());
        assert!(SockRef::from(&stream).keepalive().unwrap());
    }
}
