//! What was asked and answered: written to a file before it is sent, and kept for the comparison with the ledger.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::Outcome;

/// Something that is asked for, under a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The idempotency key, or a name of it alone where it has none.
    pub key: String,
    /// Whether it has a key.
    pub is_keyed: bool,
    /// The path; none for an item of a batch.
    pub path: Option<String>,
    /// The body, or the item with its key.
    pub body: Value,
}

impl Asked {
    /// Something that is asked of a path.
    pub const fn of(path: String, key: String, body: Value) -> Self {
        Self { key, is_keyed: true, path: Some(path), body }
    }

    /// An item of a batch, whose body has its key.
    pub const fn item(key: String, body: Value) -> Self {
        Self { key, is_keyed: true, path: None, body }
    }

    /// The same without a key.
    #[must_use]
    pub fn without_key(self) -> Self {
        Self { is_keyed: false, ..self }
    }
}

/// Everything that a run has asked.
#[derive(Debug)]
pub struct Journal {
    file: File,
    lines: Vec<(Asked, Option<Outcome>)>,
}

impl Journal {
    /// An empty one that is written to that file.
    ///
    /// # Errors
    ///
    /// If the file cannot be made.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::create(path)?, lines: Vec::new() })
    }

    /// Writes down what is about to be sent; answers its line.
    ///
    /// # Panics
    ///
    /// If it cannot be written: it must not be sent then.
    pub fn asks(&mut self, asked: Asked) -> usize {
        let line = self.lines.len();
        self.write(&json!({ "line": line, "at": now(), "key": asked.key, "path": asked.path, "body": asked.body }));
        self.lines.push((asked, None));
        line
    }

    /// Writes down what came of it.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn answered(&mut self, line: usize, outcome: Outcome) {
        self.write(&json!({ "line": line, "at": now(), "outcome": format!("{outcome:?}") }));
        self.lines[line].1 = Some(outcome);
    }

    /// What was asked under each key, with what came of it; what has no answer is unknown.
    pub fn by_key(&self) -> BTreeMap<String, Vec<(Asked, Outcome)>> {
        let mut by_key: BTreeMap<String, Vec<(Asked, Outcome)>> = BTreeMap::new();
        for (asked, outcome) in &self.lines {
            let outcome = outcome.clone().unwrap_or_else(|| Outcome::Unknown("no answer".to_owned()));
            by_key.entry(asked.key.clone()).or_default().push((asked.clone(), outcome));
        }
        by_key
    }

    /// How many requests were asked, done, refused, and answered with anything unknown.
    pub fn counts(&self) -> [usize; 4] {
        let count = |is: fn(&Outcome) -> bool| self.lines.iter().filter(|(_, it)| it.as_ref().is_some_and(is)).count();
        let done = count(|outcome| matches!(outcome, Outcome::Done { .. }));
        let refused = count(|outcome| matches!(outcome, Outcome::Refused { .. }));
        [self.lines.len(), done, refused, self.lines.len() - done - refused]
    }

    fn write(&mut self, line: &Value) {
        writeln!(self.file, "{line}").expect("the journal can be written");
    }
}

fn now() -> String {
    multicredit_store::clock::now().to_rfc3339()
}
