//! Usage as CSV: a header that names the columns, then one consumption a line.
//!
//! No column may hold a line break, so a record is a line. That is worth enforcing: a quotation mark that is never
//! closed then spoils its own line, and not the rest of the file.

use std::io::Read as _;

use ::csv::{ReaderBuilder, StringRecord, Terminator};
use multicredit_domain::{ActionType, Consume, ExternalId, Quantity, Timestamp};

use super::entry::Row;
use crate::wire::{KeyText, Reason, Text};

/// The column of the instant, which is checked once the present is known.
pub const OCCURRED_AT: &str = "occurred_at";

/// A column, by what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Organization,
    Action,
    Quantity,
    IdempotencyKey,
    OccurredAt,
}

impl Column {
    const ALL: [Self; 5] = [Self::Organization, Self::Action, Self::Quantity, Self::IdempotencyKey, Self::OccurredAt];

    const fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Action => "action",
            Self::Quantity => "quantity",
            Self::IdempotencyKey => "idempotency_key",
            Self::OccurredAt => OCCURRED_AT,
        }
    }

    const fn is_required(self) -> bool {
        matches!(self, Self::Organization | Self::Action | Self::IdempotencyKey)
    }
}

/// Which column stands where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(Vec<Column>);

impl Header {
    /// Reads the first line. An unknown column is an error: a misspelt `quantity` would charge 1 a line.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut columns = Vec::new();
        for name in &record(line)? {
            let column = Column::ALL.into_iter().find(|column| column.name() == name);
            let column =
                column.ok_or_else(|| format!("there is no column `{}`: {}", name.escape_debug(), expected()))?;
            if columns.contains(&column) {
                return Err(format!("the column `{name}` stands there twice"));
            }
            columns.push(column);
        }
        let missing = Column::ALL.into_iter().find(|column| column.is_required() && !columns.contains(column));
        match missing {
            Some(column) => Err(format!("the column `{}` is missing: {}", column.name(), expected())),
            None => Ok(Self(columns)),
        }
    }

    /// Reads one consumption, or says of every field what is wrong with it.
    pub fn read(&self, line: &str) -> Result<Row, String> {
        let record = record(line)?;
        if record.len() != self.0.len() {
            return Err(format!("must have {} fields, as the header has, not {}", self.0.len(), record.len()));
        }
        let mut fields = Fields { header: self, record, problems: Vec::new() };
        let organization = fields.required(Column::Organization, ExternalId::parse);
        let action = fields.required(Column::Action, ActionType::parse);
        let quantity = fields.optional(Column::Quantity, quantity).unwrap_or_default();
        let key = fields.required(Column::IdempotencyKey, KeyText::parse);
        let occurred_at = fields.optional(Column::OccurredAt, Timestamp::parse);
        match (organization, action, key) {
            (Some(organization), Some(action), Some(key)) if fields.problems.is_empty() => {
                let request = Consume { action, quantity, occurred_at, metadata: None, actor: None };
                Ok(Row { organization, request, key: key.key() })
            }
            _ => Err(fields.problems.join("; ")),
        }
    }
}

fn expected() -> String {
    let names = Column::ALL.map(|column| {
        let optional = if column.is_required() { "" } else { " (optional)" };
        format!("{}{optional}", column.name())
    });
    format!("the columns are {}", names.join(", "))
}

/// A line's fields under their header, with what was found wrong with them.
struct Fields<'a> {
    header: &'a Header,
    record: StringRecord,
    problems: Vec<String>,
}

impl Fields<'_> {
    fn required<T>(&mut self, column: Column, parse: impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        let parsed = parse(self.field(column));
        parsed.map_err(|reason| self.problems.push(format!("{}: {reason}", column.name()))).ok()
    }

    /// An empty field is as good as none.
    fn optional<T>(&mut self, column: Column, parse: impl Fn(&str) -> Result<T, Reason>) -> Option<T> {
        if self.field(column).is_empty() { None } else { self.required(column, parse) }
    }

    fn field(&self, column: Column) -> &str {
        let place = self.header.0.iter().position(|other| *other == column);
        place.and_then(|place| self.record.get(place)).unwrap_or_default()
    }
}

fn quantity(text: &str) -> Result<Quantity, Reason> {
    // What does not fit into the integer is as much out of range as what fits.
    Quantity::new(text.parse().unwrap_or(0)).map_err(|error| error.to_string().into())
}

/// One line's fields. Its end is given back to it: a line break that turns up inside a field then says that the
/// quotation mark before it was never closed.
pub fn record(line: &str) -> Result<StringRecord, String> {
    const END: u8 = b'\n';
    let mut record = StringRecord::new();
    ReaderBuilder::new()
        .has_headers(false)
        .terminator(Terminator::Any(END))
        .buffer_capacity(line.len() + 1)
        .from_reader(line.as_bytes().chain(&[END][..]))
        .read_record(&mut record)
        .map_err(|error| error.to_string())?;
    if record.iter().any(|field| field.contains(char::from(END))) {
        return Err("has a quotation mark that is not closed".to_owned());
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use multicredit_domain::IdempotencyKey;

    use super::*;

    const FULL: &str = "organization,action,quantity,idempotency_key,occurred_at";

    fn read(header: &str, line: &str) -> Result<Row, String> {
        Header::parse(header).unwrap().read(line)
    }

    #[test]
    fn a_line_is_one_consumption_under_the_key_of_a_request() {
        let entry = read(FULL, "acme,ai_tokens,4818,k-1,2023-11-16T18:17:03.979960Z").unwrap();
        assert_eq!(entry.organization.as_str(), "acme");
        assert_eq!(entry.request.action.as_str(), "ai_tokens");
        assert_eq!(entry.request.quantity.get(), 4818);
        assert_eq!(entry.request.occurred_at.unwrap().to_rfc3339(), "2023-11-16T18:17:03.979960+00:00");
        assert_eq!(entry.key, IdempotencyKey::of_request("k-1").unwrap());
    }

    #[test]
    fn columns_go_by_name_and_optional_ones_may_be_absent_or_empty() {
        let expected = read(FULL, "acme,sms,1,k,").unwrap();
        assert_eq!(expected.request.occurred_at, None);
        assert_eq!(read("idempotency_key,organization,action", "k,acme,sms"), Ok(expected.clone()));
        assert_eq!(read("action,quantity,organization,idempotency_key", "sms,,acme,k"), Ok(expected));
    }

    #[test]
    fn quoted_fields_hold_commas_and_quotation_marks() {
        let entry = read(FULL, r#""Acme, ""Inc""",sms,"2",k,"#).unwrap();
        assert_eq!(entry.organization.as_str(), r#"Acme, "Inc""#);
        assert_eq!(entry.request.quantity.get(), 2);
    }

    #[test]
    fn every_bad_field_is_named() {
        let range = "quantity: must be a whole number from 1 to 9007199254740991";
        for bad in ["0", "-1", "1.5", "x", "9007199254740992", "99999999999999999999"] {
            assert_eq!(read(FULL, &format!("acme,sms,{bad},k,")).unwrap_err(), range, "{bad}");
        }
        let problems = read(FULL, ",a b,0,,yesterday").unwrap_err();
        let fields: Vec<_> = problems.split("; ").map(|problem| problem.split(':').next().unwrap()).collect();
        assert_eq!(fields, ["organization", "action", "quantity", "idempotency_key", "occurred_at"]);
    }

    #[test]
    fn a_line_with_too_few_or_too_many_fields_or_a_stray_line_end_is_refused() {
        for bad in ["acme,sms,1,k", "acme,sms,1,k,,", "acme,sms,1,k,\racme,sms,1,k2,"] {
            assert!(read(FULL, bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(read(FULL, "acme,sms").unwrap_err(), "must have 5 fields, as the header has, not 2");
        assert_eq!(read(FULL, "\"acme,sms,1,k,").unwrap_err(), "has a quotation mark that is not closed");
    }

    #[test]
    fn a_header_that_is_not_understood_is_refused_as_a_whole() {
        for (bad, part) in [
            ("organization,action,quantitiy,idempotency_key", "`quantitiy`"),
            ("organization,action,action,idempotency_key", "`action` stands there twice"),
            ("organization,action", "`idempotency_key` is missing"),
            ("", "is missing"),
        ] {
            let problem = Header::parse(bad).unwrap_err();
            assert!(problem.contains(part), "{bad}: {problem}");
        }
    }
}
