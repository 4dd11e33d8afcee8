//! `multicredit import`: usage from a file, charged exactly once however often the file is imported.
//!
//! | step | module | where |
//! | --- | --- | --- |
//! | read lines, none longer than a limit | `lines` | a thread of its own |
//! | parse each into an entry | `entry`, `csv` | that thread |
//! | gather batches | `reader` | that thread |
//! | find the organizations, make missing ones | `organizations` | here |
//! | charge the batch and wait for every answer | `charge` | the store's ledger |
//! | count, and name what was invalid | `tally`, `progress` | here |
//!
//! One batch is charged at a time and in the order of the file, so that credits which do not suffice for all of an
//! organization's lines pay for the first ones. An organization that is not there yet is made before its first line is
//! charged, and gets its opening once, whoever else imports at the same time (`opening`).

mod charge;
mod csv;
mod entry;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod lines;
mod organizations;
mod patience;
mod progress;
mod reader;
mod tally;

#[cfg(any(test, fuzzing))]
pub use self::fuzzing::csv as fuzz_csv;

use std::path::Path;

use anyhow::Context;
use multicredit_store::Store;

use self::charge::Charger;
use self::progress::Progress;
use self::reader::Reader;
use self::tally::Tally;
use super::{Outcome, database, output};
use crate::config::{ImportArgs, InputFormat, OutputFormat};

/// What standard input is called in place of a file.
const STANDARD_INPUT: &str = "-";

/// The format that was asked for, or else the one that the file's name tells.
fn choose_format(asked: Option<InputFormat>, file: &Path) -> anyhow::Result<InputFormat> {
    asked.or_else(|| format_by_name(file)).with_context(|| {
        format!("the name of {} does not tell its format: say --input-format ndjson or csv", file.display())
    })
}

fn format_by_name(file: &Path) -> Option<InputFormat> {
    if file == Path::new(STANDARD_INPUT) {
        return Some(InputFormat::Ndjson);
    }
    match file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "ndjson" | "jsonl" => Some(InputFormat::Ndjson),
        "csv" => Some(InputFormat::Csv),
        _ => None,
    }
}

/// Imports a file and prints what became of its lines.
pub async fn run(args: ImportArgs) -> anyhow::Result<Outcome> {
    let format = choose_format(args.input_format, &args.file)?;
    // Before the database: a misspelt name should not migrate anything.
    let (reader, size) = Reader::open(&args.file, format)?;
    let store = database::open(&args.database, "import").await?;
    let charged = charge_all(&args, &store, reader, size).await;
    store.close().await;
    let tally = charged?;
    match args.output.format {
        OutputFormat::Text => output::print(&tally.summary())?,
        OutputFormat::Json => output::print_json(&tally)?,
    }
    Ok(tally.outcome())
}

async fn charge_all(args: &ImportArgs, store: &Store, mut reader: Reader, size: Option<u64>) -> anyhow::Result<Tally> {
    let progress = Progress::start(size);
    let mut charger = Charger::new(store.clone(), args.create_missing);
    let mut tally = Tally::default();
    let mut last_line = 0;
    while let Some(batch) = reader.next().await? {
        let (bytes, batch_ends) = (batch.bytes, batch.last_line);
        let verdicts = charger.charge(batch).await.with_context(|| {
            format!(
                "the import ended between the lines {} and {batch_ends}, after {}; what was charged stays charged, and \
                 running the same import again charges nothing twice",
                last_line + 1,
                tally.line()
            )
        })?;
        for (line, verdict) in &verdicts {
            tally.count(verdict);
            if let tally::Verdict::Invalid(problem) = verdict {
                progress.say(&format!("line {line}: {problem}"));
            }
        }
        progress.advance(bytes, &tally);
        last_line = batch_ends;
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format_unless_somebody_says_it() {
        let choose = |asked, file: &str| choose_format(asked, Path::new(file)).ok();
        assert_eq!(choose(None, "usage.ndjson"), Some(InputFormat::Ndjson));
        assert_eq!(choose(None, "usage.jsonl"), Some(InputFormat::Ndjson));
        assert_eq!(choose(None, "usage.CSV"), Some(InputFormat::Csv));
        assert_eq!(choose(None, "-"), Some(InputFormat::Ndjson));
        assert_eq!(choose(None, "usage.txt"), None);
        assert_eq!(choose(None, "usage"), None);
        assert_eq!(choose(Some(InputFormat::Csv), "usage.ndjson"), Some(InputFormat::Csv));
    }
}
