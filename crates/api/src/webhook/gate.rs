//! The gate: connections to hosts that customers name, and none to an address that is not allowed.
//!
//! A host is resolved once, and what is connected to is an address that was checked, not the name again: a name that
//! resolves to something else a moment later changes nothing. No proxy is asked, for it would resolve by itself.

use std::io;
use std::net::{IpAddr, SocketAddr};

use multicredit_domain::webhook::{Network, is_public};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::limits::WEBHOOK_CONNECT_TIMEOUT;

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum GateError {
    /// The host has no other addresses than such as webhooks do not go to.
    #[error("the address {0} is not public")]
    Refused(IpAddr),
    /// The host has no address.
    #[error("the host was not found: {0}")]
    Unresolved(#[source] io::Error),
    /// None of its addresses takes a connection; the error is that of the last one.
    #[error("no connection: {0}")]
    Unreachable(#[source] io::Error),
    /// There was none in time.
    #[error("no connection within {} s", WEBHOOK_CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

/// Which addresses may be connected to: public ones, and what the operator allows besides.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    allowed: Vec<Network>,
}

impl Gate {
    /// A gate that lets through to public addresses and to those of `allowed`.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed }
    }

    /// Whether the address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|network| network.contains(address))
    }

    /// A connection to one of the host's addresses that may be connected to, within [`WEBHOOK_CONNECT_TIMEOUT`] for
    /// everything. `host` is a name or an address without brackets.
    pub async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, GateError> {
        let dialled = timeout(WEBHOOK_CONNECT_TIMEOUT, self.dial(lookup_host((host, port)))).await;
        dialled.map_err(|_| GateError::TimedOut)?
    }

    /// Knows the addresses that were found and not the name: it cannot be asked again.
    async fn dial<A: Iterator<Item = SocketAddr>>(
        &self,
        found: impl Future<Output = io::Result<A>>,
    ) -> Result<TcpStream, GateError> {
        let addresses = found.await.map_err(GateError::Unresolved)?;
        let mut failure = GateError::Unresolved(io::ErrorKind::NotFound.into());
        for address in addresses {
            if !self.permits(address.ip()) {
                // That an address was tried and failed says more than that another one was not.
                if !matches!(failure, GateError::Unreachable(_)) {
                    failure = GateError::Refused(address.ip());
                }
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = GateError::Unreachable(error),
            }
        }
        Err(failure)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::TcpListener;

    use super::*;

    /// Ways to say this machine. Some resolvers take the odd ones for names that do not exist.
    const HERE: [&str; 8] =
        ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "localhost"];
    const ODD: [&str; 6] = ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0", "::127.0.0.1"];

    /// Listens at every address of this machine, of both kinds where it has both.
    async fn listener() -> TcpListener {
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap(),
        }
    }

    #[tokio::test]
    async fn nothing_knocks_at_an_address_that_is_not_allowed() {
        let listener = listener().await;
        let port = listener.local_addr().unwrap().port();
        let closed = Gate::default();
        for host in HERE {
            let refused = closed.connect(host, port).await;
            assert!(matches!(refused, Err(GateError::Refused(_))), "{host}: {refused:?}");
        }
        for host in ODD {
            let refused = closed.connect(host, port).await;
            assert!(matches!(refused, Err(GateError::Refused(_) | GateError::Unresolved(_))), "{host}: {refused:?}");
        }
        // Connections are accepted in their order: had there been one before, it would come first.
        let open = Gate::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let allowed = open.connect("127.0.0.1", port).await.unwrap();
        let (_, first) = listener.accept().await.unwrap();
        assert_eq!(first.port(), allowed.local_addr().unwrap().port());
    }

    #[tokio::test]
    async fn what_is_allowed_opens_nothing_else() {
        let listener = listener().await;
        let port = listener.local_addr().unwrap().port();
        let gate = Gate::new(vec!["127.0.0.0/8".parse().unwrap()]);
        for host in ["0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            let refused = gate.connect(host, port).await;
            assert!(matches!(refused, Err(GateError::Refused(_))), "{host}: {refused:?}");
        }
        gate.connect("localhost", port).await.unwrap();
        assert!(gate.permits("1.1.1.1".parse().unwrap()));
        assert!(!gate.permits("169.254.169.254".parse().unwrap()));
    }

    /// A name that says one thing when it is judged and another one when it is used is used as it was judged.
    #[tokio::test]
    async fn a_name_that_changes_its_mind_changes_nothing() {
        let wanted = TcpListener::bind(("127.0.0.2", 0)).await.unwrap();
        let port = wanted.local_addr().unwrap().port();
        let secret = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let gate = Gate::new(vec!["127.0.0.2/32".parse().unwrap()]);
        let says = |host: [u8; 4]| async move { Ok([SocketAddr::from((host, port))].into_iter()) };
        let stream = gate.dial(says([127, 0, 0, 2])).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 2]));
        // The same name a moment later.
        let refused = gate.dial(says([127, 0, 0, 1])).await;
        assert!(matches!(refused, Err(GateError::Refused(_))), "{refused:?}");
        // Of several addresses, those that are refused are not even tried.
        let both =
            async { Ok([[127, 0, 0, 1], [127, 0, 0, 2]].map(|host| SocketAddr::from((host, port))).into_iter()) };
        assert_eq!(gate.dial(both).await.unwrap().peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 2]));
        let knocks = timeout(std::time::Duration::from_millis(100), secret.accept()).await;
        assert!(knocks.is_err(), "{knocks:?}");
    }

    #[tokio::test]
    async fn who_does_not_answer_is_told_from_who_may_not_be_asked() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let gate = Gate::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let refused = gate.connect("127.0.0.1", port).await;
        assert!(matches!(refused, Err(GateError::Unreachable(_))), "{refused:?}");
    }
}
