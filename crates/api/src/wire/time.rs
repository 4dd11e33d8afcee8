//! Instants: RFC 3339 with any offset in, UTC with `Z` out, microseconds throughout.

use chrono::{DateTime, Datelike as _, Timelike as _};
use multicredit_domain::Timestamp;
use poem_openapi::registry::MetaSchema;
use serde::{Serialize, Serializer};

use super::Text;
use super::text::Reason;

impl Text for Timestamp {
    const NAME: &'static str = "Time";

    fn schema() -> MetaSchema {
        MetaSchema {
            example: Some("2026-11-22T09:30:00Z".into()),
            ..MetaSchema::new_with_format("string", "date-time")
        }
    }

    /// Reads an instant, cut to the microsecond in which it lies. A leap second counts as the second after it, which is
    /// how PostgreSQL takes it.
    fn parse(text: &str) -> Result<Self, Reason> {
        const REASON: Reason = Reason::Borrowed("must be a time such as 2026-11-22T09:30:00Z (RFC 3339)");
        let instant = DateTime::parse_from_rfc3339(text).map_err(|_| REASON)?;
        let instant = DateTime::from_timestamp_micros(instant.timestamp_micros()).ok_or(REASON)?;
        // An offset can move an instant out of the years that RFC 3339 can write.
        if (1..=9999).contains(&instant.year()) { Ok(instant) } else { Err(REASON) }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Written::of(*self) {
            Some(written) => serializer.serialize_str(written.as_str()),
            None => self.serialize(serializer),
        }
    }
}

/// An instant as text, without the general machinery of formats: every answer has some.
struct Written {
    bytes: [u8; Self::BYTES_MAX],
    length: usize,
}

impl Written {
    const BYTES_MAX: usize = "2026-11-22T09:30:00.000000Z".len();

    /// `None` for what RFC 3339 has no four digits for, and what is finer than a microsecond.
    fn of(instant: Timestamp) -> Option<Self> {
        let year = u32::try_from(instant.year()).ok().filter(|year| *year <= 9999)?;
        let nanos = instant.nanosecond();
        // A leap second has more.
        if !nanos.is_multiple_of(1_000) || nanos >= 1_000_000_000 {
            return None;
        }
        let mut written = Self { bytes: [0; Self::BYTES_MAX], length: 0 };
        written.number(year, 4);
        for (mark, number) in [
            (b'-', instant.month()),
            (b'-', instant.day()),
            (b'T', instant.hour()),
            (b':', instant.minute()),
            (b':', instant.second()),
        ] {
            written.push(mark);
            written.number(number, 2);
        }
        if nanos != 0 {
            written.push(b'.');
            if nanos.is_multiple_of(1_000_000) {
                written.number(nanos / 1_000_000, 3);
            } else {
                written.number(nanos / 1_000, 6);
            }
        }
        written.push(b'Z');
        Some(written)
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn number(&mut self, mut number: u32, digits: usize) {
        for place in (self.length..self.length + digits).rev() {
            self.bytes[place] = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
        self.length += digits;
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    fn round_trip(text: &str) -> String {
        serde_json::to_value(Wire(Timestamp::parse(text).unwrap())).unwrap().as_str().unwrap().to_owned()
    }

    #[test]
    fn instants_are_cut_to_microseconds_and_written_in_utc() {
        assert_eq!(round_trip("2026-11-22T10:30:00+01:00"), "2026-11-22T09:30:00Z");
        assert_eq!(round_trip("2026-11-22T09:30:00.1234569Z"), "2026-11-22T09:30:00.123456Z");
        assert_eq!(round_trip("1969-12-31T23:59:59.9999999Z"), "1969-12-31T23:59:59.999999Z");
        assert_eq!(round_trip("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00Z");
    }

    #[test]
    fn instants_are_written_as_serde_writes_them() {
        let first = Timestamp::parse("0001-01-01T00:00:00Z").unwrap();
        let day = chrono::TimeDelta::days(1).num_microseconds().unwrap();
        let last = (9_999 - 1) * 365 * day;
        // Steps that fall on every kind of fraction.
        for step in (0..last).step_by(usize::try_from(977 * day + 1_001).unwrap()) {
            for extra in [0, 1, 999, 1_000, 250_000, 86_399_999_999] {
                let at = first + chrono::TimeDelta::microseconds(step / 1_000 * 1_000 + extra);
                assert_eq!(serde_json::to_string(&Wire(at)).unwrap(), serde_json::to_string(&at).unwrap());
            }
        }
        let far = DateTime::from_timestamp(253_402_300_800, 0).unwrap();
        assert!(Written::of(far).is_none() && Written::of(far - chrono::TimeDelta::nanoseconds(1)).is_none());
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        let bad =
            ["", "now", "2026-11-22", "2026-11-22T09:30:00", "2026-02-30T00:00:00Z", "0001-01-01T00:00:00+01:00", "1"];
        for bad in bad {
            assert!(Timestamp::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
