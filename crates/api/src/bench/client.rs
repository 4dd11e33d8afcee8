//! A client of HTTP/1.1 that does no more than a benchmark needs.
//!
//! It shares the processors with the server, so whatever it spends is taken from what it measures. It writes a request
//! that is ready, and reads of the answer the status and the length. Nothing is allocated per request.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The room for an answer at first: more than any but that of a batch call.
const BUFFER_BYTES: usize = 4 * 1024;

/// The most that an answer may have.
const ANSWER_MAX_BYTES: usize = 16 * 1024 * 1024;

const LENGTH: &[u8] = b"content-length:";

const CLOSE: &[u8] = b"connection: close";

/// A connection that is kept.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, until the next request.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The three digits of the status.
    pub status: [u8; 3],
    /// The body.
    pub body: &'a [u8],
    /// Whether the server closes the connection after it.
    pub is_last: bool,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends a request and reads its answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let mut head = None;
        loop {
            if filled == self.buffer.len() {
                self.grow()?;
            }
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if head.is_none() {
                head = parse_head(&self.buffer[..filled])?;
            }
            if let Some(Head { status, body_at, end, is_last }) = head
                && filled >= end
            {
                if filled > end {
                    return Err(malformed("there is more than the answer"));
                }
                return Ok(Answer { status, body: &self.buffer[body_at..end], is_last });
            }
        }
    }

    fn grow(&mut self) -> io::Result<()> {
        let bytes = self.buffer.len() * 2;
        if bytes > ANSWER_MAX_BYTES {
            return Err(malformed("the answer is too long"));
        }
        self.buffer.resize(bytes, 0);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    status: [u8; 3],
    body_at: usize,
    end: usize,
    is_last: bool,
}

/// The head of the answer; `None` before all of it has come.
fn parse_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut at = 0;
    let mut length: Option<usize> = None;
    let mut is_last = false;
    while let Some(line_bytes) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = &bytes[at..at + line_bytes];
        at += line_bytes + 1;
        if line == b"\r" {
            let status = bytes.get(9..12).and_then(|digits| digits.try_into().ok());
            let (Some(status), Some(length)) = (status, length) else {
                return Err(malformed("the answer has no status or no length"));
            };
            return Ok(Some(Head { status, body_at: at, end: at + length, is_last }));
        }
        is_last |= line.len() >= CLOSE.len() && line[..CLOSE.len()].eq_ignore_ascii_case(CLOSE);
        if line.len() > LENGTH.len() && line[..LENGTH.len()].eq_ignore_ascii_case(LENGTH) {
            let digits = std::str::from_utf8(&line[LENGTH.len()..]).ok().and_then(|text| text.trim().parse().ok());
            length = Some(digits.ok_or_else(|| malformed("the length is no number"))?);
        }
    }
    Ok(None)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_head_is_read_when_all_of_it_is_there() {
        let text = b"HTTP/1.1 201 Created\r\nContent-Type: a\r\nCONTENT-LENGTH: 5\r\nConnection: close\r\n\r\nhello";
        let body_at = text.len() - 5;
        for length in 0..body_at {
            assert_eq!(parse_head(&text[..length]).unwrap(), None);
        }
        let head = Head { status: *b"201", body_at, end: text.len(), is_last: true };
        assert_eq!(parse_head(text).unwrap(), Some(head));
        assert!(parse_head(b"HTTP/1.1 204 No Content\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn answers_are_told_apart_however_they_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = Client::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let long = "x".repeat(3 * BUFFER_BYTES);
        let answers = [("200", "short"), ("402", long.as_str()), ("200", "")];
        let serving = async {
            for (status, body) in answers {
                let mut request = [0; 4];
                server.read_exact(&mut request).await.unwrap();
                let answer = format!("HTTP/1.1 {status} Any\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                for part in answer.as_bytes().chunks(1_000) {
                    server.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            drop(server);
        };
        let asking = async {
            for (status, body) in answers {
                let answer = client.exchange(b"ask?").await.unwrap();
                assert_eq!((&answer.status[..], answer.body), (status.as_bytes(), body.as_bytes()));
            }
            assert!(client.exchange(b"ask?").await.is_err());
        };
        tokio::join!(serving, asking);
    }
}
