//! How values look to people: numbers with separators, times in words, credits with their type's mark.
//!
//! What is written here is HTML and goes into pages as it is: every piece is a number, a fixed word, or a time. Nothing
//! that a person has typed passes through.

use std::fmt;

use askama::filters::HtmlSafe;
use chrono::TimeDelta;
use multicredit_domain::credit::COUNT;
use multicredit_domain::{Amount, CreditType, Credits, Delta, Timestamp};

/// How a credit type is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind(pub CreditType);

impl Kind {
    /// Every type.
    pub const ALL: [Self; COUNT] =
        [Self(CreditType::Ai), Self(CreditType::Whatsapp), Self(CreditType::Email), Self(CreditType::Sms)];

    /// The name in class names and queries.
    pub const fn key(self) -> &'static str {
        self.0.as_str()
    }

    /// The name for people.
    pub const fn name(self) -> &'static str {
        match self.0 {
            CreditType::Ai => "AI",
            CreditType::Whatsapp => "WhatsApp",
            CreditType::Email => "E-mail",
            CreditType::Sms => "SMS",
        }
    }

    /// Its mark: a shape of its own beside the colour, for those who see no difference in colours.
    pub const fn mark(self) -> Mark {
        Mark(self)
    }
}

/// The mark of a type, as a picture without words.
#[derive(Debug, Clone, Copy)]
pub struct Mark(Kind);

impl HtmlSafe for Mark {}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = match self.0.0 {
            CreditType::Ai => r#"<circle cx="5" cy="5" r="4.4"/>"#,
            CreditType::Whatsapp => r#"<rect x="1" y="1" width="8" height="8" rx="1"/>"#,
            CreditType::Email => r#"<path d="M5 .6 9.6 9H.4z"/>"#,
            CreditType::Sms => r#"<path d="M5 0 10 5 5 10 0 5z"/>"#,
        };
        write!(f, r#"<svg class="mark {}" viewBox="0 0 10 10" aria-hidden="true">{shape}</svg>"#, self.0.key())
    }
}

/// A whole number with separators.
pub fn number(value: impl Into<i128>) -> String {
    let value = value.into();
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 3);
    if value < 0 {
        text.push('\u{2212}');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number in few characters, for the axis of a chart: `950`, `1.2k`, `3M`.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn short(value: i128) -> String {
    let scales = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let value = value as f64;
    let scale = scales.into_iter().find(|(scale, _)| value.abs() >= *scale);
    let Some((scale, unit)) = scale else { return format!("{value}") };
    let text = format!("{:.1}", value / scale);
    format!("{}{unit}", text.trim_end_matches(".0"))
}

/// A ratio as a percentage.
pub fn percent(ratio: f64) -> String {
    format!("{:.1}\u{202f}%", ratio * 100.0)
}

/// So many bytes.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn bytes(value: i64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = value as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value}\u{202f}B") } else { format!("{value:.1}\u{202f}{}", UNITS[unit]) }
}

/// An instant in words, with all of it in its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    text: String,
    exact: String,
}

impl HtmlSafe for Moment {}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, exact } = self;
        write!(f, r#"<time datetime="{exact}" title="{exact}">{text}</time>"#)
    }
}

/// The date and the time of the day, in UTC.
pub fn moment(at: Timestamp) -> Moment {
    Moment { text: at.format("%-d\u{a0}%b\u{a0}%Y, %H:%M").to_string(), exact: exact(at) }
}

/// The same to the second.
pub fn moment_to_the_second(at: Timestamp) -> Moment {
    Moment { text: at.format("%-d\u{a0}%b\u{a0}%Y, %H:%M:%S").to_string(), exact: exact(at) }
}

/// How far away it is from `now`: `in 3 days`, `5 minutes ago`.
pub fn distance(at: Timestamp, now: Timestamp) -> Moment {
    let text = match at - now {
        away if away >= TimeDelta::minutes(1) => format!("in {}", span(away)),
        away if away <= -TimeDelta::minutes(1) => format!("{} ago", span(-away)),
        _ => "just now".to_owned(),
    };
    Moment { text, exact: exact(at) }
}

fn exact(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// A length of time by its largest unit, rounded down.
fn span(length: TimeDelta) -> String {
    let (count, unit) = match length {
        it if it.num_days() >= 730 => (it.num_days() / 365, "year"),
        it if it.num_days() >= 60 => (it.num_days() / 30, "month"),
        it if it.num_hours() >= 48 => (it.num_days(), "day"),
        it if it.num_minutes() >= 120 => (it.num_hours(), "hour"),
        it => (it.num_minutes(), "minute"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{}\u{a0}{unit}{plural}", number(count))
}

/// Credits as a row of marks and amounts; types with nothing are left out.
#[derive(Debug, Clone)]
pub struct Chips(Vec<(Kind, String)>);

impl HtmlSafe for Chips {}

impl fmt::Display for Chips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(r#"<span class="none">none</span>"#);
        }
        f.write_str(r#"<span class="chips">"#)?;
        for (kind, amount) in &self.0 {
            let (mark, name) = (kind.mark(), kind.name());
            write!(
                f,
                r#"<span class="chip">{mark}<span class="num">{amount}</span> <span class="unit">{name}</span></span> "#
            )?;
        }
        f.write_str("</span>")
    }
}

/// Credits by type.
pub fn chips(credits: Credits) -> Chips {
    sums(credits.to_array().map(Amount::get))
}

/// Sums of credits by type.
pub fn sums(sums: [i64; COUNT]) -> Chips {
    Chips(Kind::ALL.into_iter().zip(sums).filter(|(_, sum)| *sum != 0).map(|(kind, sum)| (kind, number(sum))).collect())
}

/// A change by type, with its sign.
pub fn changes(delta: Delta) -> Chips {
    let signed = |change: i64| format!("{}{}", if change > 0 { "+" } else { "" }, number(change));
    let changes = Kind::ALL.into_iter().zip(delta.to_array()).filter(|(_, change)| *change != 0);
    Chips(changes.map(|(kind, change)| (kind, signed(change))).collect())
}

/// A word of a program's, for people: `hold_expiry` is `Hold expiry`.
pub fn words(name: &str) -> String {
    let mut text = name.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown = [0_i64, 999, 1000, -1_234_567, 9_007_199_254_740_991].map(number);
        assert_eq!(shown, ["0", "999", "1,000", "\u{2212}1,234,567", "9,007,199,254,740,991"]);
        assert_eq!([0, 950, 1_000, 1_250, 3_000_000].map(short), ["0", "950", "1k", "1.2k", "3M"]);
        assert_eq!([512, 1536, 1 << 30].map(bytes), ["512\u{202f}B", "1.5\u{202f}kB", "1.0\u{202f}GB"]);
    }

    #[test]
    fn times_are_words_with_the_instant_beside_them() {
        let now: Timestamp = "2026-11-23T02:00:00Z".parse().unwrap();
        let text = |away| distance(now + away, now).text;
        assert_eq!(text(TimeDelta::seconds(59)), "just now");
        assert_eq!(text(TimeDelta::minutes(1)), "in 1\u{a0}minute");
        assert_eq!(text(TimeDelta::hours(-47)), "47\u{a0}hours ago");
        assert_eq!(text(TimeDelta::days(3)), "in 3\u{a0}days");
        assert_eq!(text(TimeDelta::days(-400)), "13\u{a0}months ago");
        let shown = moment(now + TimeDelta::microseconds(5)).to_string();
        let exact = "2026-11-23T02:00:00.000005Z";
        assert_eq!(shown, format!("<time datetime=\"{exact}\" title=\"{exact}\">23\u{a0}Nov\u{a0}2026, 02:00</time>"));
    }

    #[test]
    fn every_type_has_a_mark_of_its_own() {
        let marks: std::collections::BTreeSet<String> = Kind::ALL.map(|kind| kind.mark().to_string()).into();
        assert_eq!(marks.len(), COUNT);
        assert_eq!(Kind::ALL.map(|Kind(credit_type)| credit_type), CreditType::ALL);
    }
}
