//! Organizations: the tenants, and what their status allows.

use std::fmt;

use chrono::{NaiveDateTime, TimeDelta};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Timestamp;
use crate::error::Refusal;
use crate::id::OrganizationId;
use crate::text::ExternalId;

/// What an organization may do at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrganizationStatus {
    /// Everything.
    Active,
    /// Receive and settle credits, but spend none.
    Frozen,
    /// Nothing, for good.
    Closed,
}

impl OrganizationStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Active, Self::Frozen, Self::Closed];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Frozen => "frozen",
            Self::Closed => "closed",
        }
    }

    /// The status of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether credits may be spent, or why not.
    pub fn may_spend(self) -> Result<(), Refusal> {
        match self {
            Self::Active => Ok(()),
            Self::Frozen => Err(Refusal::OrganizationFrozen),
            Self::Closed => Err(Refusal::OrganizationClosed),
        }
    }

    /// Whether credits may be received or given back, or why not.
    pub fn may_receive(self) -> Result<(), Refusal> {
        match self {
            Self::Active | Self::Frozen => Ok(()),
            Self::Closed => Err(Refusal::OrganizationClosed),
        }
    }

    /// The status after a request for `next`: closed is for good.
    pub fn change_to(self, next: Self) -> Result<Self, Refusal> {
        match (self, next) {
            (Self::Closed, Self::Active | Self::Frozen) => Err(Refusal::OrganizationClosed),
            (_, next) => Ok(next),
        }
    }
}

impl fmt::Display for OrganizationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Its id.
    pub id: OrganizationId,
    /// What people call it.
    pub name: String,
    /// What the customer's system calls it; unique.
    pub external_id: Option<ExternalId>,
    /// Where its days and months begin.
    pub time_zone: TimeZone,
    /// What it may do.
    pub status: OrganizationStatus,
    /// When it was made.
    pub created_at: Timestamp,
}

/// There is no such time zone in the IANA database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be a time zone of the IANA database, such as UTC or Europe/Berlin")]
pub struct UnknownTimeZone;

/// The name of a time zone in the IANA database, which is compiled in: the same rules on every machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeZone(String);

impl TimeZone {
    /// The zone of that name, in the database's own spelling, or [`UnknownTimeZone`].
    pub fn new(name: &str) -> Result<Self, UnknownTimeZone> {
        let zone = jiff::tz::db().get(name).map_err(|_| UnknownTimeZone)?;
        zone.iana_name().map(|name| Self(name.to_owned())).ok_or(UnknownTimeZone)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the calendar and the clock on the wall show there at that instant.
    pub fn wall_clock(&self, at: Timestamp) -> NaiveDateTime {
        let instant = jiff::Timestamp::from_microsecond(at.timestamp_micros()).ok();
        let zone = jiff::tz::db().get(&self.0).ok();
        let offset = instant.zip(zone).map_or(0, |(instant, zone)| zone.to_offset(instant).seconds());
        at.naive_utc() + TimeDelta::seconds(offset.into())
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl TryFrom<String> for TimeZone {
    type Error = UnknownTimeZone;

    fn try_from(name: String) -> Result<Self, UnknownTimeZone> {
        Self::new(&name)
    }
}

impl From<TimeZone> for String {
    fn from(zone: TimeZone) -> Self {
        zone.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_zones_are_those_of_the_iana_database() {
        assert_eq!(TimeZone::new("UTC").unwrap().as_str(), "UTC");
        assert_eq!(TimeZone::new("europe/berlin").unwrap().as_str(), "Europe/Berlin");
        for bad in ["", "Mars/Olympus", "+01:00", "../etc/passwd"] {
            assert_eq!(TimeZone::new(bad), Err(UnknownTimeZone), "{bad}");
        }
    }

    #[test]
    fn a_time_zone_is_its_name_in_json() {
        let zone: TimeZone = serde_json::from_str(r#""europe/berlin""#).unwrap();
        assert_eq!(serde_json::to_string(&zone).unwrap(), r#""Europe/Berlin""#);
        let error = serde_json::from_str::<TimeZone>(r#""Mars/Olympus""#).unwrap_err().to_string();
        assert!(error.starts_with(&UnknownTimeZone.to_string()), "{error}");
    }

    #[test]
    fn the_clock_on_the_wall_is_that_of_the_season() {
        let shown = |at: &str| TimeZone::new("Europe/Berlin").unwrap().wall_clock(at.parse().unwrap()).to_string();
        assert_eq!(shown("2026-07-01T22:30:00Z"), "2026-07-02 00:30:00");
        assert_eq!(shown("2026-12-31T22:30:00Z"), "2026-12-31 23:30:00");
    }

    #[test]
    fn who_is_closed_receives_nothing_and_who_is_not_active_spends_nothing() {
        use OrganizationStatus::{Active, Closed, Frozen};
        let frozen = Err(Refusal::OrganizationFrozen);
        let closed = Err(Refusal::OrganizationClosed);
        assert_eq!([Active, Frozen, Closed].map(OrganizationStatus::may_receive), [Ok(()), Ok(()), closed.clone()]);
        assert_eq!([Active, Frozen, Closed].map(OrganizationStatus::may_spend), [Ok(()), frozen, closed]);
        assert_eq!([Active, Frozen, Closed].map(|status| status.to_string()), ["active", "frozen", "closed"]);
    }

    #[test]
    fn closed_is_for_good() {
        use OrganizationStatus::{Active, Closed, Frozen};
        assert_eq!(Active.change_to(Frozen), Ok(Frozen));
        assert_eq!(Frozen.change_to(Active), Ok(Active));
        assert_eq!(Closed.change_to(Active), Err(Refusal::OrganizationClosed));
        assert_eq!(Closed.change_to(Closed), Ok(Closed));
    }
}
