//! What a flag or variable can hold.

use std::collections::BTreeSet;
use std::fmt;

use clap::ValueEnum;
use multicredit_domain::{Amount, CreditType, Credits};
use multicredit_store::Scope;

use crate::wire::{Reason, Text as _};

/// What standard output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Text for people
    Text,
    /// JSON, and nothing else
    Json,
}

/// How a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Tables for a terminal
    Text,
    /// Tables of Markdown
    Markdown,
    /// One JSON object, and nothing else
    Json,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchEngine {
    /// PostgreSQL
    Postgres,
    /// SQLite
    Sqlite,
    /// Both
    All,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Who may see `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MetricsAccess {
    /// Everybody who reaches the server: it names no organization
    Open,
    /// Whoever has a key with scope read that is bound to no organization
    Key,
    /// Nobody
    Off,
}

/// What a file to import holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// A `CloudEvent` a line
    Ndjson,
    /// A header, then a consumption a line
    Csv,
}

/// A setting that must not be seen: it shows itself to nobody who does not say [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The scope of that name.
pub fn parse_scope(name: &str) -> Result<Scope, Reason> {
    Scope::parse(name)
}

/// The longest that a row can be measured at a time.
const SECONDS_MAX: f64 = 3_600.0;

/// Reads a number of seconds, of which parts count.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=SECONDS_MAX).contains(seconds));
    seconds.ok_or_else(|| format!("must be a number from 0.1 to {SECONDS_MAX}"))
}

/// An example of what [`parse_opening`] reads, for `--help`.
pub const OPENING_EXAMPLE: &str = "ai=1000000,sms=500";

/// Reads `ai=1000000,sms=500`.
pub fn parse_opening(text: &str) -> Result<Credits, String> {
    let mut credits = Credits::ZERO;
    let mut named = BTreeSet::new();
    for part in text.split(',') {
        let (name, amount) = part.split_once('=').ok_or_else(|| format!("must look like {OPENING_EXAMPLE}"))?;
        let credit_type = CreditType::from_name(name)
            .ok_or_else(|| format!("must name credit types: {}", CreditType::ALL.map(CreditType::as_str).join(", ")))?;
        if !named.insert(credit_type) {
            return Err(format!("must name {credit_type} once"));
        }
        // What does not fit into the integer is as much out of range as what fits.
        credits[credit_type] = Amount::new(amount.parse().unwrap_or(-1)).map_err(|error| format!("{name} {error}"))?;
    }
    if credits.is_zero() { Err("must grant something".to_owned()) } else { Ok(credits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show_itself() {
        let secret = Secret::from("hunter2".to_owned());
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn scopes_are_those_of_the_api() {
        assert_eq!(parse_scope("credit"), Ok(Scope::Credit));
        assert_eq!(parse_scope("write").unwrap_err(), "must be one of read, consume, credit, admin");
    }

    #[test]
    fn seconds_are_a_number_that_can_be_waited_for() {
        assert_eq!(parse_seconds("0.3"), Ok(0.3));
        for bad in ["", "0", "-1", "NaN", "inf", "3601", "1s"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn credits_are_read_by_type_and_a_type_left_out_is_zero() {
        let credits = parse_opening(OPENING_EXAMPLE).unwrap();
        assert_eq!(credits.to_string(), "ai 1000000, whatsapp 0, email 0, sms 500");
        assert_eq!(parse_opening("ai=9007199254740991").unwrap()[CreditType::Ai].get(), 9_007_199_254_740_991);
        assert!(parse_opening("ai=0,sms=1").is_ok());
    }

    #[test]
    fn what_is_no_grant_is_refused_with_the_reason() {
        for (bad, part) in [
            ("", "look like"),
            ("ai", "look like"),
            ("ai=1,", "look like"),
            ("voice=1", "must name credit types: ai, whatsapp, email, sms"),
            ("AI=1", "credit types"),
            ("ai=1,ai=2", "must name ai once"),
            ("ai=", "ai must be a whole number"),
            ("ai=-1", "ai must be a whole number"),
            ("ai=1.5", "ai must be a whole number"),
            ("ai=9007199254740992", "ai must be a whole number"),
            ("ai=0,sms=0", "must grant something"),
        ] {
            let problem = parse_opening(bad).unwrap_err();
            assert!(problem.contains(part), "{bad:?}: {problem}");
        }
    }
}
