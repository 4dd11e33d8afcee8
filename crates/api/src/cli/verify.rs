//! `multicredit verify`: whether every invariant of the ledger holds.

use std::fmt::Write as _;

use anyhow::Context;
use multicredit_store::{Check, VerifyReport};
use serde::Serialize;

use super::{Outcome, database, output};
use crate::config::{OutputFormat, VerifyArgs};

/// The report as JSON, with the verdict that the exit code gives.
#[derive(Serialize)]
struct Verdict<'a> {
    passed: bool,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

/// Checks everything and prints what was found.
pub async fn run(args: VerifyArgs) -> anyhow::Result<Outcome> {
    let store = database::open(&args.database, "verify").await?;
    let report = store.verify().await;
    store.close().await;
    let report = report.context("cannot check the ledger")?;
    match args.output.format {
        OutputFormat::Text => output::print(&describe(&report))?,
        OutputFormat::Json => output::print_json(&Verdict { passed: report.passed(), report: &report })?,
    }
    Ok(outcome(&report))
}

fn outcome(report: &VerifyReport) -> Outcome {
    if report.passed() { Outcome::Success } else { Outcome::Violation }
}

/// A line for each check, the examples of what is wrong under it, and the verdict.
fn describe(report: &VerifyReport) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let verdict = match check {
            Check { violations: 0, .. } => "ok  ",
            Check { is_warning: true, .. } => "warn",
            _ => "FAIL",
        };
        let _ = write!(text, "{verdict}  {}", check.name);
        if check.violations > 0 {
            let _ = write!(text, ": {} found", check.violations);
        }
        text.push('\n');
        for example in &check.examples {
            let _ = writeln!(text, "        {example}");
        }
    }
    let verdict = if report.passed() { "every invariant holds" } else { "INVARIANTS ARE VIOLATED" };
    let _ = write!(text, "{} organizations, {} checks: {verdict}", report.organizations, report.checks.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(violations: u64, is_warning: bool) -> VerifyReport {
        let check = |name, violations, is_warning| Check {
            name,
            violations,
            examples: (0..violations).map(|number| format!("organization {number}")).collect(),
            is_warning,
        };
        VerifyReport {
            organizations: 2,
            checks: vec![check("no balance is negative", 0, false), check("sums agree", violations, is_warning)],
        }
    }

    #[test]
    fn a_violation_is_shown_with_its_examples_and_fails() {
        let report = report(2, false);
        let expected = "ok    no balance is negative\nFAIL  sums agree: 2 found\n        organization 0\n        \
                        organization 1\n2 organizations, 2 checks: INVARIANTS ARE VIOLATED";
        assert_eq!(describe(&report), expected);
        assert_eq!(outcome(&report), Outcome::Violation);
    }

    #[test]
    fn a_warning_is_shown_and_does_not_fail() {
        let report = report(1, true);
        assert!(describe(&report).contains("\nwarn  sums agree: 1 found\n"));
        assert_eq!(outcome(&report), Outcome::Success);
    }

    #[test]
    fn the_json_says_whether_it_passed() {
        let report = report(1, false);
        let json = serde_json::to_value(Verdict { passed: report.passed(), report: &report }).unwrap();
        assert_eq!(json["passed"], false);
        assert_eq!(json["organizations"], 2);
        assert_eq!(json["checks"][1]["violations"], 1);
    }
}
