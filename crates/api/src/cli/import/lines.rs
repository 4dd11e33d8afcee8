//! A file's lines, one at a time, none longer than we are ready to hold.
//!
//! What reads a file of any size in bounded memory must not trust it to have lines: a long one is skipped to its end and
//! reported, as is one that is no text, and the next line is a line again.

use std::fmt;
use std::io::{self, BufRead, Read as _};

use crate::limits::BODY_MAX_BYTES;

/// The longest line, in bytes: what the API takes as a body.
pub const LINE_BYTES_MAX: usize = BODY_MAX_BYTES;

/// Why a line cannot be read as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// Longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// Bytes that are no UTF-8.
    NotUtf8,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "must be at most {LINE_BYTES_MAX} bytes long"),
            Self::NotUtf8 => f.write_str("must be UTF-8"),
        }
    }
}

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its number, from 1, as editors count.
    pub number: u64,
    /// Its text, or why it has none.
    pub text: Result<&'a str, Unreadable>,
}

/// Reads lines.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads the lines of `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), number: 0, bytes: 0 }
    }

    /// How many bytes have been read so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line, or `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        // One more than is allowed, and the line's end.
        let limit = LINE_BYTES_MAX as u64 + 2;
        let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.bytes += read as u64;
        let is_whole = self.buffer.ends_with(b"\n") || (read as u64) < limit;
        if !is_whole {
            self.bytes += self.reader.skip_until(b'\n')? as u64;
        }
        Ok(Some(Line { number: self.number, text: self.text(is_whole) }))
    }

    fn text(&self, is_whole: bool) -> Result<&str, Unreadable> {
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Some programs begin a UTF-8 file with a byte order mark.
        let line = if self.number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if !is_whole || line.len() > LINE_BYTES_MAX {
            return Err(Unreadable::TooLong);
        }
        str::from_utf8(line).map_err(|_| Unreadable::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (u64, Result<String, Unreadable>);

    /// Everything that `input` holds, through a buffer that is smaller than a line.
    fn read(input: &[u8]) -> (Vec<Read>, u64) {
        let mut lines = Lines::new(io::BufReader::with_capacity(7, input));
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.number, line.text.map(str::to_owned)));
        }
        (found, lines.bytes())
    }

    fn text(number: u64, text: &str) -> Read {
        (number, Ok(text.to_owned()))
    }

    #[test]
    fn ends_of_lines_and_a_byte_order_mark_are_not_part_of_the_text() {
        let (lines, bytes) = read(b"\xef\xbb\xbfone\r\n\ntwo\nlast");
        assert_eq!(lines, [text(1, "one"), text(2, ""), text(3, "two"), text(4, "last")]);
        assert_eq!(bytes, 17);
        assert_eq!(read(b"").0, []);
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_costs_only_itself() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        let input = [b"a\n", longest.as_bytes(), b"\r\n", longest.as_bytes(), b"xyz\n\xff\xfe\n", b"b"].concat();
        let (lines, bytes) = read(&input);
        let expected = [
            text(1, "a"),
            text(2, &longest),
            (3, Err(Unreadable::TooLong)),
            (4, Err(Unreadable::NotUtf8)),
            text(5, "b"),
        ];
        assert!(lines == expected, "{} lines", lines.len());
        assert_eq!(bytes, input.len() as u64);
    }

    #[test]
    fn no_more_of_a_long_line_is_held_than_is_allowed() {
        let input = "x".repeat(5 * LINE_BYTES_MAX);
        let mut lines = Lines::new(input.as_bytes());
        assert_eq!(lines.next().unwrap().unwrap().text, Err(Unreadable::TooLong));
        assert!(lines.buffer.capacity() <= 4 * LINE_BYTES_MAX);
        assert_eq!(lines.next().unwrap(), None);
    }
}
