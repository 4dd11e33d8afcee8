//! Rate limits: how many requests a second an API key may send, and how many an organization may get.
//!
//! They are off unless they are configured. Each process counts for itself. An allowance fills up evenly and holds a
//! second's worth, so that much may come at once (the generic cell rate algorithm). Items of a batch call count for
//! their organizations one by one; for the key the call is one.
//!
//! Answers tell how things stand, as <https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/> has it:
//! `RateLimit-Policy` and `RateLimit`.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use governor::clock::DefaultClock;
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use multicredit_domain::{ApiKeyId, OrganizationId};
use poem::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use crate::problem::{Code, Problem};

/// `RateLimit-Policy`, by the draft.
pub const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// `RateLimit`, by the draft.
pub const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// After how many requests what nobody uses any more is forgotten.
const FORGET_EVERY: u32 = 1 << 16;

/// Requests a second; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// Of one API key.
    pub key: Option<NonZeroU32>,
    /// For one organization, of whatever keys.
    pub organization: Option<NonZeroU32>,
}

/// The limits of a process.
pub struct RateLimits {
    keys: Option<Limit>,
    organizations: Option<Limit>,
}

struct Limit {
    name: &'static str,
    a_second: NonZeroU32,
    limiter: RateLimiter<Uuid, DashMapStateStore<Uuid>, DefaultClock, StateInformationMiddleware>,
    taken: AtomicU32,
}

/// What of a limit was left after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    name: &'static str,
    a_second: u32,
    requests: u32,
}

/// How the limits of a request stand, for the headers of its answer.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Vec<Left>>);

impl RateLimits {
    /// Full allowances for everybody.
    pub fn new(settings: RateLimitSettings) -> Self {
        let limit = |name, a_second: Option<NonZeroU32>| a_second.map(|a_second| Limit::new(name, a_second));
        Self { keys: limit("key", settings.key), organizations: limit("organization", settings.organization) }
    }

    /// Whether there is any.
    pub const fn is_on(&self) -> bool {
        self.keys.is_some() || self.organizations.is_some()
    }

    /// Counts a request of a key; [`Code::RateLimited`] if it is one too many.
    pub fn take_of_key(&self, id: ApiKeyId, standing: Option<&Standing>) -> Result<(), Problem> {
        self.keys.as_ref().map_or(Ok(()), |limit| limit.take(id.uuid(), standing))
    }

    /// Counts a request for an organization; [`Code::RateLimited`] if it is one too many.
    pub fn take_of_organization(&self, id: OrganizationId, standing: Option<&Standing>) -> Result<(), Problem> {
        self.organizations.as_ref().map_or(Ok(()), |limit| limit.take(id.uuid(), standing))
    }
}

impl Limit {
    fn new(name: &'static str, a_second: NonZeroU32) -> Self {
        let limiter = RateLimiter::keyed(Quota::per_second(a_second)).with_middleware();
        Self { name, a_second, limiter, taken: AtomicU32::new(0) }
    }

    fn take(&self, whose: Uuid, standing: Option<&Standing>) -> Result<(), Problem> {
        if self.taken.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.limiter.retain_recent();
        }
        let taken = self.limiter.check_key(&whose);
        if let Some(standing) = standing {
            let requests = taken.as_ref().map_or(0, StateSnapshot::remaining_burst_capacity);
            standing.note(Left { name: self.name, a_second: self.a_second.get(), requests });
        }
        taken.map(drop).map_err(|_| Problem::new(Code::RateLimited))
    }
}

impl Standing {
    /// Remembers what is least.
    fn note(&self, left: Left) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.iter_mut().find(|it| it.name == left.name) {
            Some(it) => it.requests = it.requests.min(left.requests),
            None => known.push(left),
        }
    }

    /// Tells it, if there is anything to tell.
    pub fn write(&self, headers: &mut HeaderMap) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return;
        }
        let (mut policies, mut limits) = (String::new(), String::new());
        for Left { name, a_second, requests } in known.iter() {
            let comma = if policies.is_empty() { "" } else { ", " };
            let _ = write!(policies, "{comma}\"{name}\";q={a_second};w=1");
            let _ = write!(limits, "{comma}\"{name}\";r={requests};t=1");
        }
        for (name, text) in [(RATELIMIT_POLICY, policies), (RATELIMIT, limits)] {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(key: u32, organization: u32) -> RateLimitSettings {
        RateLimitSettings { key: NonZeroU32::new(key), organization: NonZeroU32::new(organization) }
    }

    #[test]
    fn a_seconds_worth_may_come_at_once_and_no_more() {
        let limits = RateLimits::new(settings(3, 0));
        let (one, other) = (ApiKeyId::new(Uuid::from_u128(1)), ApiKeyId::new(Uuid::from_u128(2)));
        for _ in 0..3 {
            assert!(limits.take_of_key(one, None).is_ok());
        }
        assert_eq!(limits.take_of_key(one, None).unwrap_err().code(), Code::RateLimited);
        assert!(limits.take_of_key(other, None).is_ok(), "everybody has an allowance of their own");
        assert!(limits.take_of_organization(OrganizationId::new(Uuid::from_u128(1)), None).is_ok());
    }

    #[test]
    fn what_is_left_stands_in_the_headers() {
        let limits = RateLimits::new(settings(10, 5));
        let standing = Standing::default();
        limits.take_of_key(ApiKeyId::new(Uuid::from_u128(1)), Some(&standing)).unwrap();
        for _ in 0..2 {
            limits.take_of_organization(OrganizationId::new(Uuid::from_u128(1)), Some(&standing)).unwrap();
        }
        let mut headers = HeaderMap::new();
        standing.write(&mut headers);
        assert_eq!(headers[RATELIMIT_POLICY], "\"key\";q=10;w=1, \"organization\";q=5;w=1");
        assert_eq!(headers[RATELIMIT], "\"key\";r=9;t=1, \"organization\";r=3;t=1");
        let mut none = HeaderMap::new();
        Standing::default().write(&mut none);
        assert!(none.is_empty());
    }
}
