//! Which events an endpoint is told.

use std::collections::BTreeSet;

use crate::event::EventType;

/// Which events are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EventFilter {
    /// All that need not be asked for by name, those of later releases included.
    #[default]
    Usual,
    /// These.
    Only(BTreeSet<EventType>),
}

impl EventFilter {
    /// Whether an event of that type is wanted.
    pub fn wants(&self, event: EventType) -> bool {
        match self {
            Self::Usual => !event.is_opt_in(),
            Self::Only(events) => events.contains(&event),
        }
    }

    /// The types by name, separated by commas, where they were named.
    pub fn to_text(&self) -> Option<String> {
        match self {
            Self::Usual => None,
            Self::Only(events) => Some(events.iter().map(|event| event.as_str()).collect::<Vec<_>>().join(",")),
        }
    }

    /// The filter that was written so; `None` if a name in it is none.
    pub fn from_text(text: Option<&str>) -> Option<Self> {
        let Some(text) = text else { return Some(Self::Usual) };
        text.split(',').map(EventType::from_name).collect::<Option<_>>().map(Self::Only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_asked_for_is_told_to_those_who_ask() {
        let only = EventFilter::Only([EventType::CreditsConsumed].into());
        for event in EventType::ALL {
            assert_eq!(EventFilter::Usual.wants(event), event != EventType::CreditsConsumed);
            assert_eq!(only.wants(event), event == EventType::CreditsConsumed);
        }
    }

    #[test]
    fn a_filter_is_read_as_it_was_written() {
        let filters = [
            EventFilter::Usual,
            EventFilter::Only(EventType::ALL.into()),
            EventFilter::Only([EventType::HoldPlaced].into()),
        ];
        for filter in filters {
            assert_eq!(EventFilter::from_text(filter.to_text().as_deref()), Some(filter));
        }
        assert_eq!(EventFilter::from_text(Some("hold.placed,nothing")), None);
    }
}
