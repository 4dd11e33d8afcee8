//! Reading and parsing, on a thread of its own: files are read by blocking calls, and parsing goes on while the database
//! works on the batch before.
//!
//! Memory stays bounded whatever the file's size: a line is at most [`LINE_BYTES_MAX`] long, a batch ends at the first of
//! two limits, and only [`BATCHES_AHEAD`] wait.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::mem;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;

use super::STANDARD_INPUT;
use super::csv::Header;
use super::entry::Entry;
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use crate::cloud_event::CloudEvent;
use crate::config::InputFormat;

/// The most lines of a batch: two full transactions of the ledger, so that one gathers while the other commits.
const BATCH_LINES_MAX: usize = 1000;

/// The bytes at which a batch ends, for lines that are much longer than usual.
const BATCH_BYTES_MAX: u64 = 8 * LINE_BYTES_MAX as u64;

/// How many batches may wait while one is charged.
const BATCHES_AHEAD: usize = 2;

/// The buffer in front of the file: large reads, few system calls.
const BUFFER_BYTES: usize = 256 * 1024;

type Batches = mpsc::Sender<anyhow::Result<Batch>>;

/// Lines that are charged together.
#[derive(Debug, Default)]
pub struct Batch {
    /// What each means, or what is wrong with it, by the line's number. Empty lines mean nothing.
    pub lines: Vec<(u64, Result<Entry, String>)>,
    /// How many bytes of the file they took.
    pub bytes: u64,
    /// The number of the last line.
    pub last_line: u64,
}

/// A file that is being read.
pub struct Reader {
    batches: mpsc::Receiver<anyhow::Result<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Begins to read, and answers the size too where there is one to know. `-` is standard input.
    pub fn open(file: &Path, format: InputFormat) -> anyhow::Result<(Self, Option<u64>)> {
        if file == Path::new(STANDARD_INPUT) {
            return Ok((Self::start(io::stdin(), format)?, None));
        }
        let describe = || format!("cannot read {}", file.display());
        let opened = File::open(file).with_context(describe)?;
        let metadata = opened.metadata().with_context(describe)?;
        if metadata.is_dir() {
            return Err(anyhow!("it is a folder")).with_context(describe);
        }
        // A pipe has a size of 0.
        let size = metadata.is_file().then_some(metadata.len());
        Ok((Self::start(opened, format)?, size))
    }

    fn start(source: impl Read + Send + 'static, format: InputFormat) -> anyhow::Result<Self> {
        let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let read = move || {
            if let Err(error) = read(BufReader::with_capacity(BUFFER_BYTES, source), format, &sender) {
                // Nobody left to tell means nobody left who wants to know.
                let _ = sender.blocking_send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("import-reader".to_owned()).spawn(read);
        Ok(Self { batches, thread: Some(thread.context("cannot start a thread")?) })
    }

    /// The next batch, or `None` at the file's end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Batch>> {
        if let Some(batch) = self.batches.recv().await {
            return batch.map(Some);
        }
        // A thread that panicked has hung up as well, and its file has not ended.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(anyhow!("reading the file ended unexpectedly")),
            Some(Ok(())) | None => Ok(None),
        }
    }
}

/// Reads everything, and stops early when nobody takes the batches any more.
fn read(source: impl BufRead, format: InputFormat, sender: &Batches) -> anyhow::Result<()> {
    let mut lines = Lines::new(source);
    let parser = Parser::begin(format, &mut lines)?;
    let mut batch = Batch::default();
    let mut bytes_sent = 0;
    loop {
        let after = batch.last_line;
        let Some(line) = lines.next().with_context(|| format!("cannot read on after line {after}"))? else {
            break;
        };
        batch.last_line = line.number;
        if let Some(parsed) = parser.parse(&line) {
            batch.lines.push((line.number, parsed));
        }
        batch.bytes = lines.bytes() - bytes_sent;
        if batch.lines.len() >= BATCH_LINES_MAX || batch.bytes >= BATCH_BYTES_MAX {
            bytes_sent = lines.bytes();
            let last_line = batch.last_line;
            let full = mem::replace(&mut batch, Batch { last_line, ..Batch::default() });
            if sender.blocking_send(Ok(full)).is_err() {
                return Ok(());
            }
        }
    }
    // The receiver may be gone; then there is nothing left to do either way.
    let _ = sender.blocking_send(Ok(batch));
    Ok(())
}

/// How lines become entries.
pub enum Parser {
    /// By themselves.
    Ndjson,
    /// Under a header.
    Csv(Header),
}

impl Parser {
    /// Reads what a format has before its first entry.
    pub fn begin(format: InputFormat, lines: &mut Lines<impl BufRead>) -> anyhow::Result<Self> {
        match format {
            InputFormat::Ndjson => Ok(Self::Ndjson),
            InputFormat::Csv => {
                let line =
                    lines.next().context("cannot read the header")?.context("there is no header: the file is empty")?;
                let header = line.text.map_err(|unreadable| unreadable.to_string()).and_then(Header::parse);
                header.map(Self::Csv).map_err(|problem| anyhow!("line {}: {problem}", line.number))
            }
        }
    }

    /// What the line means; `None` for one that is blank.
    pub fn parse(&self, line: &Line<'_>) -> Option<Result<Entry, String>> {
        let text = match line.text {
            Ok(text) if text.trim().is_empty() => return None,
            Ok(text) => text,
            Err(unreadable) => return Some(Err(unreadable.to_string())),
        };
        Some(match self {
            Self::Ndjson => parse_event(text).map(Entry::Event),
            Self::Csv(header) => header.read(text).map(Entry::Row),
        })
    }
}

fn parse_event(text: &str) -> Result<CloudEvent, String> {
    CloudEvent::parse(text).map_err(|errors| match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => errors.to_string(),
        // What a caller of the API is told, of a body and of its first line, would be puzzling here.
        Err(error) => format!("must be a JSON object on one line; it is broken at column {}", error.column()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"sms","subject":"acme"}"#;

    /// What the batches of a file with this content say of its lines: the number, and a problem where there is one.
    async fn problems(format: InputFormat, content: &str) -> anyhow::Result<Vec<(u64, Option<String>)>> {
        let mut reader = Reader::start(io::Cursor::new(content.to_owned()), format)?;
        let mut found = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = reader.next().await? {
            found.extend(batch.lines.into_iter().map(|(line, entry)| (line, entry.err())));
            bytes += batch.bytes;
        }
        assert_eq!(bytes, content.len() as u64);
        Ok(found)
    }

    #[tokio::test]
    async fn bad_lines_are_named_and_good_ones_around_them_are_read() {
        let content = format!("{EVENT}\n\n  \n{{\"id\n[]\n{}\n{EVENT}", EVENT.replace("sms", "s m s"));
        let found = problems(InputFormat::Ndjson, &content).await.unwrap();
        let lines: Vec<_> = found.iter().map(|(line, problem)| (*line, problem.is_some())).collect();
        assert_eq!(lines, [(1, false), (4, true), (5, true), (6, true), (7, false)]);
        let problem = |index: usize| found[index].1.clone().unwrap();
        assert!(problem(1).starts_with("must be a JSON object on one line"), "{}", problem(1));
        assert!(problem(3).starts_with("type: must be"), "{}", problem(3));
    }

    #[tokio::test]
    async fn a_csv_without_a_header_that_is_understood_ends_the_import_with_the_line() {
        let read = |content: &'static str| problems(InputFormat::Csv, content);
        assert!(read("").await.unwrap_err().to_string().contains("no header"));
        let error = read("organization,action\nacme,sms\n").await.unwrap_err();
        assert!(error.to_string().starts_with("line 1: "), "{error}");
        let found = read("organization,action,idempotency_key\nacme,sms,k\nacme,,k2\n").await.unwrap();
        assert_eq!(found[0], (2, None));
        assert!(found[1].1.as_ref().unwrap().starts_with("action: "), "{found:?}");
    }

    #[tokio::test]
    async fn batches_are_bounded_by_lines_and_by_bytes() {
        let many = format!("{EVENT}\n").repeat(2 * BATCH_LINES_MAX + 1);
        let mut reader = Reader::start(io::Cursor::new(many), InputFormat::Ndjson).unwrap();
        let mut sizes = Vec::new();
        while let Some(batch) = reader.next().await.unwrap() {
            sizes.push((batch.lines.len(), batch.last_line));
        }
        assert_eq!(sizes, [(BATCH_LINES_MAX, 1000), (BATCH_LINES_MAX, 2000), (1, 2001)]);

        let long = format!("{}\n", "x".repeat(LINE_BYTES_MAX)).repeat(20);
        let mut reader = Reader::start(io::Cursor::new(long), InputFormat::Ndjson).unwrap();
        while let Some(batch) = reader.next().await.unwrap() {
            assert!(batch.bytes <= BATCH_BYTES_MAX + LINE_BYTES_MAX as u64 + 1, "{}", batch.bytes);
        }
    }

    #[tokio::test]
    async fn a_reader_that_dies_is_not_taken_for_the_end_of_the_file() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("the disk is on fire");
            }
        }
        let mut reader = Reader::start(Broken, InputFormat::Ndjson).unwrap();
        assert!(reader.next().await.is_err());
    }
}
