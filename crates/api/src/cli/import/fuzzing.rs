//! What is asserted of files that are imported ([`crate::fuzzing`]).

use ::csv::WriterBuilder;
use multicredit_domain::{OrganizationId, Timestamp};
use uuid::Uuid;

use super::csv::{Header, record};
use super::entry::{Entry, Row};
use super::lines::{LINE_BYTES_MAX, Lines};
use super::reader::Parser;
use crate::cloud_event::CloudEvent;
use crate::config::InputFormat;
use crate::occurrence::OccurrenceWindow;

/// A file is lines and nothing between them. A line of CSV means what it means when a program writes it that knows CSV;
/// one of events is the event that the API reads.
///
/// # Panics
///
/// Where that does not hold.
pub fn csv(data: &[u8]) -> bool {
    let rows = lines(InputFormat::Csv, data);
    let events = lines(InputFormat::Ndjson, data);
    rows + events > 0
}

/// How many lines are consumptions.
fn lines(format: InputFormat, data: &[u8]) -> usize {
    let mut lines = Lines::new(data);
    let Ok(parser) = Parser::begin(format, &mut lines) else { return 0 };
    let mut taken = 0;
    let mut last = u64::from(matches!(parser, Parser::Csv(_)));
    while let Some(line) = lines.next().expect("memory can be read") {
        last += 1;
        assert_eq!(line.number, last);
        let Some(parsed) = parser.parse(&line) else { continue };
        let text = line.text.ok().filter(|text| text.len() <= LINE_BYTES_MAX);
        match (&parser, parsed) {
            (_, Err(problem)) => assert!(!problem.is_empty(), "nobody learns why"),
            (Parser::Csv(header), Ok(Entry::Row(row))) => {
                rewritten(header, text.expect("what is read is text"), &row);
                taken += 1;
            }
            (Parser::Ndjson, Ok(Entry::Event(event))) => {
                assert_eq!(CloudEvent::parse(text.expect("what is read is text")), Ok(event));
                taken += 1;
            }
            (_, Ok(entry)) => panic!("the other format: {entry:?}"),
        }
    }
    assert_eq!(lines.bytes(), data.len() as u64);
    taken
}

fn rewritten(header: &Header, text: &str, row: &Row) {
    let mut writer = WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(&record(text).expect("it was read")).expect("memory can be written");
    let line = String::from_utf8(writer.into_inner().expect("memory can be written")).expect("fields are text");
    assert_eq!(header.read(line.trim_end_matches('\n')).as_ref(), Ok(row));
    let window = OccurrenceWindow::until(Timestamp::MAX_UTC - chrono::TimeDelta::days(1));
    let item = Entry::Row(row.clone()).into_item(OrganizationId::new(Uuid::nil()), window).expect("any time will do");
    assert_eq!((item.request, item.key), (row.request.clone(), Some(row.key)));
}
