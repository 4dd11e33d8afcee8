//! What commands print: results to standard output, complaints to standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Prints a result, at once even into a pipe.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    Ok(())
}

/// Prints a result as one line of JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&serde_json::to_string(value)?)
}

/// Tells a person something that is not the result. That nobody can read it must not end the work.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
