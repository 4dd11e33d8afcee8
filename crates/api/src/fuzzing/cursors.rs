//! Cursors of lists, ids of events, and how long a page is.

use multicredit_domain::{
    ActionType, AlertRuleId, ApiKeyId, CreditType, DeliveryId, EndpointId, EventId, EventPlace, GrantId, HoldId,
    OrganizationId, TopUpId,
};
use multicredit_store::{AuditPosition, LedgerPosition, LogPosition};

use super::{is_refusal, json};
use crate::page::{self, Limit, MembershipPosition, Position, RaisedPosition, SummaryPosition};
use crate::payload;
use crate::wire::{Text as _, Wire};

/// What is a cursor of a list is one of no other, and its position has that cursor and no other. An id of an event is the
/// one that is made of its place.
///
/// # Panics
///
/// Where that does not hold.
pub fn cursors(data: &[u8]) -> bool {
    let Ok(text) = payload::text(data) else { return false };
    let lists = [
        position::<OrganizationId>(text),
        position::<GrantId>(text),
        position::<ApiKeyId>(text),
        position::<ActionType>(text),
        position::<LogPosition>(text),
        position::<LedgerPosition>(text),
        position::<HoldId>(text),
        position::<String>(text),
        position::<MembershipPosition>(text),
        position::<SummaryPosition>(text),
        position::<AuditPosition>(text),
        position::<EndpointId>(text),
        position::<DeliveryId>(text),
        position::<AlertRuleId>(text),
        position::<TopUpId>(text),
        position::<CreditType>(text),
        position::<RaisedPosition>(text),
    ];
    let taken = lists.into_iter().filter(|is_one| *is_one).count();
    assert!(taken <= 1, "a cursor of {taken} lists");
    let limit = Limit::parse(text).ok();
    if let Some(limit) = limit {
        assert_eq!(json(&Wire(limit)), text.trim_start_matches('0'));
    }
    event_id(text) || taken == 1 || limit.is_some()
}

fn position<P: Position>(text: &str) -> bool {
    match page::decode::<P>(text) {
        Ok(position) => assert_eq!(page::encode(&position), text),
        Err(problem) => {
            is_refusal(&problem);
            return false;
        }
    }
    true
}

fn event_id(text: &str) -> bool {
    let Some(id) = EventId::parse(text) else { return false };
    let again = match id.place().expect("an id has a place") {
        EventPlace::Movement { organization_id, sequence, place } => {
            format!("evt_{}_{sequence}_{place}", organization_id.uuid().simple())
        }
        EventPlace::Refusal(id) => EventId::of_refusal(id).to_string(),
        EventPlace::Raised { organization_id, number } => EventId::of_raised(organization_id, number).to_string(),
    };
    assert_eq!(again, text);
    true
}
