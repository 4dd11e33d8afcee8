//! CloudEvents, one or many.

use multicredit_domain::{IdempotencyKey, OrganizationId, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{is_refusal, json};
use crate::cloud_event::CloudEvent;
use crate::occurrence::OccurrenceWindow;
use crate::payload;
use crate::resource::Events;

/// An event is read as what was written of it, and is the same consumption each time. In an array each is read, or
/// refused, as it would be alone.
///
/// # Panics
///
/// Where that does not hold.
pub fn cloud_events(data: &[u8]) -> bool {
    let Ok(text) = payload::text(data) else { return false };
    let is_one = one(text);
    let are_many = match Events::many(text) {
        Ok(Events(events)) => {
            let raw: Vec<&RawValue> = serde_json::from_str(text).expect("an array of events is one of JSON");
            assert_eq!(events, raw.iter().map(|event| CloudEvent::parse(event.get())).collect::<Vec<_>>());
            raw.iter().filter(|event| one(event.get())).count() > 0
        }
        Err(problem) => {
            is_refusal(&problem);
            false
        }
    };
    is_one || are_many
}

fn one(text: &str) -> bool {
    let event = match CloudEvent::parse(text) {
        Ok(event) => event,
        Err(errors) => {
            assert!(!errors.as_slice().is_empty(), "nobody learns why");
            return false;
        }
    };
    let again = CloudEvent::parse(&json(&event)).expect("what was written is read");
    assert_eq!(again, event);
    let window = OccurrenceWindow::until(Timestamp::MAX_UTC - chrono::TimeDelta::days(1));
    let item = |event: CloudEvent| event.into_item(OrganizationId::new(Uuid::nil()), window).expect("any time will do");
    let (item, again) = (item(event), item(again));
    assert_eq!((&item.request, item.key), (&again.request, again.key));
    let named: Named = serde_json::from_str(text).expect("an event has a name");
    assert_eq!(item.key, IdempotencyKey::of_event(&named.source, &named.id).ok());
    true
}

/// What names an event. Whatever else is in it is not looked at, as in an event that is read: a number may be beyond what
/// any type of ours holds.
#[derive(serde::Deserialize)]
struct Named {
    source: String,
    id: String,
}
