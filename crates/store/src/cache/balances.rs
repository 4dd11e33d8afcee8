//! Balances: kept by organization, carried forward by spending, never put back behind what is known.
//!
//! A slot remembers the number of the last movement that this process has heard of, with a standing or without one. A
//! standing with a smaller number is not shown and not put in: it was read before something that has been told since.

use std::future::Future;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use moka::future::Cache;
use moka::ops::compute::Op;
use multicredit_domain::{OrganizationId, Spending, Standing, Timestamp};
use tokio::time::Instant;

use super::news::News;
use super::redis::Shared;
use super::{BALANCE_TTL, BALANCES_MAX, ends};
use crate::error::StoreError;
use crate::stats::{CacheLevel, CacheStats};

/// A standing, and what whoever shows it has made of it.
#[derive(Debug)]
pub(crate) struct Shown {
    standing: Standing,
    written: OnceLock<Bytes>,
}

impl Shown {
    fn new(standing: Standing) -> Arc<Self> {
        Arc::new(Self { standing, written: OnceLock::new() })
    }

    /// What `write` makes of it, the first time that it is asked for.
    pub(crate) fn written<E>(&self, write: impl FnOnce(&Standing) -> Result<Bytes, E>) -> Result<Bytes, E> {
        if let Some(written) = self.written.get() {
            return Ok(written.clone());
        }
        let written = write(&self.standing)?;
        Ok(self.written.get_or_init(|| written).clone())
    }
}

impl Deref for Shown {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

/// How long a slot is remembered: longer than anything that it could be compared with may be shown.
const SLOT_TTL: Duration = Duration::from_mins(10);

/// For how long several who ask at once share one read. What they get is compared with the slot and with the clock all
/// the same.
const READ_TTL: Duration = Duration::from_millis(2);

#[derive(Debug, Clone)]
struct Slot {
    /// The last movement that was heard of.
    sequence: i64,
    kept: Option<Kept>,
}

#[derive(Debug, Clone)]
struct Kept {
    standing: Arc<Shown>,
    since: Instant,
    ends: Instant,
}

impl Kept {
    fn new(standing: Arc<Shown>, ttl: Duration) -> Self {
        Self { standing, since: Instant::now(), ends: ends(ttl) }
    }

    /// What was just read of the database.
    fn of(standing: Standing) -> Self {
        let ttl = ttl(&standing);
        Self::new(Shown::new(standing), ttl)
    }

    /// Whether it may be shown when a clock that is moved by hand shows `clock`.
    fn holds(&self, clock: Option<Timestamp>) -> bool {
        let boundary = self.standing.next_boundary_at();
        self.ends > Instant::now() && boundary.zip(clock).is_none_or(|(boundary, clock)| boundary > clock)
    }
}

/// How long a standing may be shown: until its next boundary, by the clock that it was read by.
pub(super) fn ttl(standing: &Standing) -> Duration {
    let boundary = standing.next_boundary_at().map(|at| (at - standing.as_of()).to_std().unwrap_or_default());
    boundary.map_or(BALANCE_TTL, |until| until.min(BALANCE_TTL))
}

pub(super) struct Balances {
    slots: Cache<OrganizationId, Slot>,
    reads: Cache<OrganizationId, Kept>,
    stats: Arc<CacheStats>,
}

impl Balances {
    pub(super) fn new(stats: Arc<CacheStats>) -> Self {
        let slots = Cache::builder().max_capacity(BALANCES_MAX).time_to_live(SLOT_TTL).build();
        let reads = Cache::builder().max_capacity(BALANCES_MAX).time_to_live(READ_TTL).build();
        Self { slots, reads, stats }
    }

    /// See [`Caches::standing`](super::Caches::standing). Without `shared` nothing is kept.
    pub(super) async fn get<F>(
        &self,
        organization_id: OrganizationId,
        fresh: bool,
        clock: Option<Timestamp>,
        shared: Option<&Shared>,
        load: impl Fn() -> F,
    ) -> Result<Arc<Shown>, StoreError>
    where
        F: Future<Output = Result<Standing, StoreError>> + Send,
    {
        let Some(shared) = shared else { return load().await.map(Shown::new) };
        if fresh {
            let kept = Kept::of(load().await?);
            self.keep(organization_id, kept.clone()).await;
            shared.put_standing(organization_id, &kept.standing).await;
            return Ok(kept.standing);
        }
        let slot = self.slots.get(&organization_id).await;
        if let Some(kept) = slot.as_ref().and_then(|slot| slot.kept.as_ref()).filter(|kept| kept.holds(clock)) {
            self.stats.hit(CacheLevel::Memory, kept.since.elapsed());
            return Ok(Arc::clone(&kept.standing));
        }
        let known = slot.map_or(0, |slot| slot.sequence);
        // Boxed: what is large here should not be carried about by whoever finds something.
        Box::pin(self.look_up(organization_id, known, clock, shared, load)).await
    }

    /// What Redis has, or the database, of a movement that is `known` or of a later one.
    async fn look_up<F>(
        &self,
        organization_id: OrganizationId,
        known: i64,
        clock: Option<Timestamp>,
        shared: &Shared,
        load: impl Fn() -> F,
    ) -> Result<Arc<Shown>, StoreError>
    where
        F: Future<Output = Result<Standing, StoreError>> + Send,
    {
        if let Some((standing, ttl)) = shared.standing(organization_id).await
            && standing.sequence() >= known
        {
            let kept = Kept::new(Shown::new(standing), ttl);
            if kept.holds(clock) {
                self.stats.hit(CacheLevel::Redis, BALANCE_TTL.saturating_sub(ttl));
                self.keep(organization_id, kept.clone()).await;
                return Ok(kept.standing);
            }
        }
        let asked = Instant::now();
        let read = async || load().await.map(Kept::of);
        let shared_read = self.reads.try_get_with(organization_id, read()).await.map_err(Arc::unwrap_or_clone)?;
        // Somebody's read that began before what was told since, or before a lot fell due.
        let outdated = shared_read.standing.sequence() < known || !shared_read.holds(clock);
        let kept = if outdated { read().await? } else { shared_read };
        self.stats.loaded(asked.elapsed());
        if self.keep(organization_id, kept.clone()).await {
            shared.put_standing(organization_id, &kept.standing).await;
        }
        Ok(kept.standing)
    }

    /// Keeps a standing, unless something newer is known.
    async fn keep(&self, organization_id: OrganizationId, kept: Kept) -> bool {
        let sequence = kept.standing.sequence();
        let done =
            self.slots.entry(organization_id).and_compute_with(async |slot| match slot.map(moka::Entry::into_value) {
                Some(slot) if slot.sequence > sequence => Op::Nop,
                _ => Op::Put(Slot { sequence, kept: Some(kept) }),
            });
        !matches!(done.await, moka::ops::compute::CompResult::Unchanged(_))
    }

    /// Takes in what has happened to a balance.
    pub(super) async fn hear(&self, news: &News) {
        let (organization, sequence, spending) = match *news {
            News::Spent { organization, count, sequence, available, at } => {
                (organization, sequence, Some(Spending { count, sequence, available, at }))
            }
            News::Moved { organization, sequence } => (organization, sequence, None),
            News::Lost { organization } => {
                self.slots.invalidate(&organization).await;
                return;
            }
            _ => return,
        };
        self.slots
            .entry(organization)
            .and_compute_with(async |slot| {
                let slot = slot.map(moka::Entry::into_value);
                if slot.as_ref().is_some_and(|slot| slot.sequence >= sequence) {
                    return Op::Nop;
                }
                let carried = slot.and_then(|slot| slot.kept).zip(spending).and_then(|(kept, spending)| {
                    let standing = Shown::new(kept.standing.after(&spending)?);
                    Some(Kept { standing, since: Instant::now(), ends: kept.ends })
                });
                Op::Put(Slot { sequence, kept: carried })
            })
            .await;
    }

    /// The standing that is kept of exactly that movement, and how long it may be shown.
    pub(super) async fn kept(&self, organization_id: OrganizationId, sequence: i64) -> Option<(Arc<Shown>, Duration)> {
        let kept = self.slots.get(&organization_id).await.filter(|slot| slot.sequence == sequence)?.kept?;
        Some((kept.standing, kept.ends.saturating_duration_since(Instant::now())))
    }

    pub(super) fn clear(&self) {
        self.slots.invalidate_all();
        self.reads.invalidate_all();
    }
}
