//! What became of the lines, counted.

use std::collections::BTreeMap;

use multicredit_domain::{Consumption, Refusal};
use multicredit_store::{Answer, StoreError};
use serde::Serialize;

use crate::cli::Outcome;

/// What became of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was charged.
    Accepted,
    /// It had been charged before.
    Replayed,
    /// The line is right, but its organization cannot pay or may not: it can be imported again later.
    Refused(&'static str),
    /// The line cannot be charged as it stands.
    Invalid(String),
}

impl Verdict {
    /// What the store's answer means, or the error that says nothing about the line.
    pub fn of(answer: Result<Answer<Consumption>, StoreError>) -> Result<Self, StoreError> {
        match answer {
            Ok(Answer { replayed: false, .. }) => Ok(Self::Accepted),
            Ok(Answer { replayed: true, .. }) => Ok(Self::Replayed),
            Err(StoreError::Refused(refusal)) => Ok(Self::of_refusal(&refusal)),
            Err(error) => Err(error),
        }
    }

    fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::InsufficientCredits(_) | Refusal::OrganizationFrozen | Refusal::OrganizationClosed => {
                Self::Refused(refusal.code())
            }
            // Everything else is about what was asked for: an action that does not exist, a cost out of range, a key
            // that was used for something else.
            _ => Self::Invalid(refusal.to_string()),
        }
    }
}

/// How many lines met which end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    accepted: u64,
    replayed: u64,
    refused: u64,
    invalid: u64,
    #[serde(skip)]
    refused_by_code: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts one line.
    pub fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accepted => self.accepted += 1,
            Verdict::Replayed => self.replayed += 1,
            Verdict::Refused(code) => {
                self.refused += 1;
                *self.refused_by_code.entry(code).or_default() += 1;
            }
            Verdict::Invalid(_) => self.invalid += 1,
        }
    }

    /// How an import with these counts ends.
    pub const fn outcome(&self) -> Outcome {
        if self.invalid == 0 { Outcome::Success } else { Outcome::InvalidInput }
    }

    /// The counts on one line, for the progress bar.
    pub fn line(&self) -> String {
        let Self { accepted, replayed, refused, invalid, .. } = self;
        format!("{accepted} accepted, {replayed} replayed, {refused} refused, {invalid} invalid")
    }

    /// The counts for people, a line each, and why what was refused was.
    pub fn summary(&self) -> String {
        let counts = [
            ("accepted", self.accepted),
            ("replayed", self.replayed),
            ("refused", self.refused),
            ("invalid", self.invalid),
        ];
        let width = counts.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or_default();
        let reasons: Vec<_> = self.refused_by_code.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let lines = counts.map(|(name, count)| {
            let why =
                if name == "refused" && count > 0 { format!("  ({})", reasons.join(", ")) } else { String::new() };
            format!("{name:8}  {count:>width$}{why}")
        });
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use multicredit_domain::{Credits, Shortfall};

    use super::*;

    fn short() -> Refusal {
        Refusal::InsufficientCredits(Box::new(Shortfall {
            required: Credits::ZERO,
            available: Credits::ZERO,
            shortfall: Credits::ZERO,
            max_affordable_quantity: 0,
        }))
    }

    fn tally(verdicts: &[Verdict]) -> Tally {
        let mut tally = Tally::default();
        for verdict in verdicts {
            tally.count(verdict);
        }
        tally
    }

    #[test]
    fn what_may_be_paid_later_is_refused_and_what_must_be_corrected_is_invalid() {
        let refused = [short(), Refusal::OrganizationFrozen, Refusal::OrganizationClosed];
        for refusal in refused {
            let code = refusal.code();
            assert_eq!(Verdict::of(Err(refusal.into())).unwrap(), Verdict::Refused(code));
        }
        let invalid =
            [Refusal::UnknownOrganization, Refusal::UnknownAction, Refusal::OutOfRange, Refusal::IdempotencyMismatch];
        for refusal in invalid {
            let text = refusal.to_string();
            assert_eq!(Verdict::of(Err(refusal.into())).unwrap(), Verdict::Invalid(text));
        }
        assert!(Verdict::of(Err(StoreError::Busy)).is_err());
    }

    #[test]
    fn only_invalid_lines_make_an_import_end_otherwise_than_well() {
        let well = tally(&[Verdict::Accepted, Verdict::Replayed, Verdict::Refused("organization_frozen")]);
        assert_eq!(well.outcome(), Outcome::Success);
        assert_eq!(tally(&[Verdict::Accepted, Verdict::Invalid(String::new())]).outcome(), Outcome::InvalidInput);
    }

    #[test]
    fn json_is_the_four_counts_and_nothing_else() {
        let tally = tally(&[Verdict::Accepted, Verdict::Accepted, Verdict::Refused("organization_frozen")]);
        let json = serde_json::to_string(&tally).unwrap();
        assert_eq!(json, r#"{"accepted":2,"replayed":0,"refused":1,"invalid":0}"#);
    }

    #[test]
    fn the_summary_is_aligned_and_says_why_lines_were_refused() {
        let mut tally = tally(&[Verdict::Refused("organization_frozen"), Verdict::Refused("insufficient_credits")]);
        for _ in 0..12 {
            tally.count(&Verdict::Accepted);
        }
        let expected = "accepted  12\nreplayed   0\nrefused    2  (insufficient_credits 1, organization_frozen 1)\n\
                        invalid    0";
        assert_eq!(tally.summary(), expected);
    }
}
