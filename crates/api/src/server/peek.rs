//! What a client says first, without taking it from whoever reads it afterwards.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long the rest of a few bytes may take that come in one packet.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait before looking again.
const PAUSE: Duration = Duration::from_millis(1);

/// Whether the client begins so. Waits for its first byte for as long as that takes.
pub(super) async fn begins_with<const LENGTH: usize>(stream: &TcpStream, begin: &[u8; LENGTH]) -> bool {
    let looking = async {
        let mut said = [0; LENGTH];
        loop {
            match stream.peek(&mut said).await {
                Ok(read) if read == LENGTH => return said == *begin,
                Ok(read) if read > 0 && begin.starts_with(&said[..read]) => sleep(PAUSE).await,
                _ => return false,
            }
        }
    };
    stream.readable().await.is_ok() && timeout(PATIENCE, looking).await == Ok(true)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Whether a client begins with `PRI ` that sends these pieces, one after the other.
    async fn begins(pieces: &[&str]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let sending = async {
            for piece in pieces {
                client.write_all(piece.as_bytes()).await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
            client.shutdown().await.unwrap();
        };
        tokio::join!(begins_with(&stream, b"PRI "), sending).0
    }

    #[tokio::test]
    async fn a_beginning_is_recognized_however_it_is_cut() {
        assert!(begins(&["PRI * HTTP/2.0"]).await);
        assert!(begins(&["P", "RI", " *"]).await);
        for pieces in [&["POST / HTTP/1.1"][..], &["P", "OST / HTTP/1.1"], &["GET / HTTP/1.1"], &["PRIX"], &[]] {
            assert!(!begins(pieces).await, "{pieces:?}");
        }
        // One that never comes to its end is none.
        assert!(!begins(&["PR"]).await);
    }
}
