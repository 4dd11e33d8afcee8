//! Which keys are valid, as this process last heard: a hot key costs no round trip.
//!
//! A key that another process revokes may still work here for [`KEY_TTL`]; one that this process revokes does not work
//! from that instant on. For that a look into the database must not put back what was revoked while it was under way:
//! each look remembers the *generation* in which it began, and revoking begins a new one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use multicredit_domain::ApiKeyId;
use multicredit_store::stats::CacheStats;

use super::Principal;
use crate::bounded::Bounded;
use crate::limits::{KEY_REFRESH_AGE, KEY_TTL, KNOWN_KEYS_MAX, UNKNOWN_KEY_TTL, UNKNOWN_KEYS_MAX};

/// The SHA-256 of a key.
pub type Digest = [u8; 32];

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is valid.
    Valid(Principal),
    /// It is valid, but it is time to ask again, and this caller is the one to do so.
    Stale(Principal, Generation),
    /// It is not valid.
    Invalid,
    /// Nothing: ask.
    Nothing(Generation),
}

/// When a look into the database began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

/// What this process knows of keys.
#[derive(Debug)]
pub struct KeyCache {
    state: RwLock<State>,
    stats: Arc<CacheStats>,
}

#[derive(Debug)]
struct State {
    generation: u64,
    valid: Bounded<Digest, Valid>,
    invalid: Bounded<Digest, Instant>,
}

#[derive(Debug)]
struct Valid {
    principal: Principal,
    read_at: Instant,
    is_refreshing: AtomicBool,
}

impl KeyCache {
    /// Knows no key yet, and counts there how often it knew one.
    pub fn new(stats: Arc<CacheStats>) -> Self {
        let state =
            State { generation: 0, valid: Bounded::new(KNOWN_KEYS_MAX), invalid: Bounded::new(UNKNOWN_KEYS_MAX) };
        Self { state: RwLock::new(state), stats }
    }

    /// What is known of a key.
    pub fn get(&self, digest: &Digest, now: Instant) -> Known {
        let known = self.look_up(digest, now);
        self.stats.looked_up(matches!(known, Known::Valid(_) | Known::Invalid));
        known
    }

    fn look_up(&self, digest: &Digest, now: Instant) -> Known {
        let state = self.read();
        let generation = Generation(state.generation);
        if let Some(valid) = state.valid.get(digest) {
            let age = now.saturating_duration_since(valid.read_at);
            if age < KEY_REFRESH_AGE || (age < KEY_TTL && valid.is_refreshing.swap(true, Ordering::Relaxed)) {
                return Known::Valid(valid.principal.clone());
            }
            if age < KEY_TTL {
                return Known::Stale(valid.principal.clone(), generation);
            }
        } else if let Some(read_at) = state.invalid.get(digest)
            && now.saturating_duration_since(*read_at) < UNKNOWN_KEY_TTL
        {
            return Known::Invalid;
        }
        Known::Nothing(generation)
    }

    /// Remembers what the database said to a look that began in `generation`, unless a key was revoked since.
    pub fn learn(&self, digest: Digest, principal: Option<Principal>, generation: Generation, now: Instant) {
        let mut state = self.write();
        match principal {
            Some(principal) if state.generation == generation.0 => {
                state.invalid.remove(&digest);
                let valid = Valid { principal, read_at: now, is_refreshing: AtomicBool::new(false) };
                state.valid.insert(digest, valid);
            }
            Some(_) => {}
            None => {
                state.valid.remove(&digest);
                state.invalid.insert(digest, now);
            }
        }
    }

    /// Forgets a key that was revoked.
    pub fn forget(&self, id: ApiKeyId) {
        let mut state = self.write();
        state.generation += 1;
        state.valid.retain(|valid| valid.principal.key().is_none_or(|key| key.id != id));
    }

    // A panic while the lock was held cannot have left half a change: every change is one call of a map.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use multicredit_store::{AuditKey, Scope};
    use uuid::Uuid;

    use super::super::Caller;
    use super::super::scope::Scopes;
    use super::*;

    const DIGEST: Digest = [7; 32];

    fn principal() -> Principal {
        let key = AuditKey { id: ApiKeyId::new(Uuid::from_u128(1)), name: String::new(), prefix: String::new() };
        Principal { caller: Caller::Key(Arc::new(key)), scopes: Scopes::of(&[Scope::Read]), bound_to: None }
    }

    fn generation(cache: &KeyCache, now: Instant) -> Generation {
        match cache.get(&[0; 32], now) {
            Known::Nothing(generation) => generation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_valid_key_is_believed_and_then_asked_for_again_by_one_caller_alone() {
        let (cache, start) = (KeyCache::new(Arc::default()), Instant::now());
        let generation = generation(&cache, start);
        assert_eq!(cache.get(&DIGEST, start), Known::Nothing(generation));
        cache.learn(DIGEST, Some(principal()), generation, start);
        assert_eq!(cache.get(&DIGEST, start), Known::Valid(principal()));
        let later = start + KEY_REFRESH_AGE;
        assert_eq!(cache.get(&DIGEST, later), Known::Stale(principal(), generation));
        assert_eq!(cache.get(&DIGEST, later), Known::Valid(principal()));
        assert_eq!(cache.get(&DIGEST, start + KEY_TTL), Known::Nothing(generation));
    }

    #[test]
    fn a_revoked_key_is_forgotten_at_once_even_if_a_look_was_under_way() {
        let (cache, now) = (KeyCache::new(Arc::default()), Instant::now());
        let before = generation(&cache, now);
        cache.learn(DIGEST, Some(principal()), before, now);
        cache.forget(ApiKeyId::new(Uuid::from_u128(1)));
        let after = generation(&cache, now);
        assert_eq!(cache.get(&DIGEST, now), Known::Nothing(after));
        cache.learn(DIGEST, Some(principal()), before, now);
        assert_eq!(cache.get(&DIGEST, now), Known::Nothing(after));
        cache.learn(DIGEST, Some(principal()), after, now);
        assert_eq!(cache.get(&DIGEST, now), Known::Valid(principal()));
    }

    #[test]
    fn an_invalid_key_is_remembered_briefly_and_yields_to_a_valid_one() {
        let (cache, now) = (KeyCache::new(Arc::default()), Instant::now());
        let generation = generation(&cache, now);
        cache.learn(DIGEST, None, generation, now);
        assert_eq!(cache.get(&DIGEST, now), Known::Invalid);
        assert_eq!(cache.get(&DIGEST, now + UNKNOWN_KEY_TTL), Known::Nothing(generation));
        cache.learn(DIGEST, Some(principal()), generation, now + Duration::from_millis(1));
        assert_eq!(cache.get(&DIGEST, now + Duration::from_millis(1)), Known::Valid(principal()));
    }
}
