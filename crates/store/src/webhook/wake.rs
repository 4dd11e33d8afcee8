//! Whom this process has moved: what lets a deliverer look at once, and at those alone.
//!
//! Nothing depends on it, since deliverers also look at everybody every second. So it is bounded and may forget, and it
//! costs whoever spends no more than a look at a number while nobody wants to be told of spending.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use multicredit_domain::OrganizationId;
use tokio::sync::Notify;

use super::WebhookInterest;

/// How many organizations are remembered. Of more, the look at everybody finds the rest.
const MOVED_MAX: usize = 500;

/// Somebody listens for movements.
const MOVEMENTS: u8 = 1;
/// And for consumptions.
const CONSUMPTIONS: u8 = 2;

#[derive(Debug, Default)]
pub(crate) struct Wake {
    interest: AtomicU8,
    moved: Mutex<BTreeSet<OrganizationId>>,
    news: Notify,
}

impl Wake {
    /// From now on those are remembered whom somebody wants to be told of.
    pub(crate) fn listen(&self, interest: WebhookInterest) {
        let listens = match interest {
            WebhookInterest { consumed: true, .. } => MOVEMENTS | CONSUMPTIONS,
            WebhookInterest { endpoints: 0, .. } => 0,
            _ => MOVEMENTS,
        };
        self.interest.store(listens, Ordering::Relaxed);
    }

    /// Whether anybody is to be told of spending, or of anything else.
    pub(crate) fn wants(&self, is_spending: bool) -> bool {
        let wanted = if is_spending { CONSUMPTIONS } else { MOVEMENTS };
        self.interest.load(Ordering::Relaxed) & wanted != 0
    }

    /// Something of an organization was committed.
    pub(crate) fn moved(&self, organization_id: OrganizationId) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        if moved.len() < MOVED_MAX && moved.insert(organization_id) {
            self.news.notify_one();
        }
    }

    /// Waits until something was.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Whom this process has moved since it was asked last.
    pub(crate) fn take(&self) -> BTreeSet<OrganizationId> {
        std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
