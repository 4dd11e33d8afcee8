//! Events: what the outside is told about what happens to credits.
//!
//! An event is a movement, or a refused attempt, as seen from outside. Nothing is stored for it: the ledger has it
//! already, in the order in which it happened. So a movement's kind says which events it makes, and an event's id is made
//! of its place in the ledger; whoever tells of it twice, tells of it by the same id. ADR 13 says why.
//!
//! What is no movement is *raised*: that a balance has become low, say. Raised events are stored, with a number of their
//! own within the organization, of which their id is made. ADR 15 says why.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{ConsumptionId, OrganizationId};
use crate::movement::MovementKind;

/// What an event tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// Credits were granted, by hand or by a plan; they may be valid later only.
    #[serde(rename = "grant.created")]
    GrantCreated,
    /// A grant ended, and what was left of it went.
    #[serde(rename = "grant.expired")]
    GrantExpired,
    /// What was left of a grant was taken back.
    #[serde(rename = "grant.voided")]
    GrantVoided,
    /// Credits were spent, at once or by the capture of a hold.
    #[serde(rename = "credits.consumed")]
    CreditsConsumed,
    /// An attempt to spend was refused.
    #[serde(rename = "credits.refused")]
    CreditsRefused,
    /// What was spent was given back.
    #[serde(rename = "credits.refunded")]
    CreditsRefunded,
    /// Credits were set aside.
    #[serde(rename = "hold.placed")]
    HoldPlaced,
    /// Credits that had been set aside were spent; the rest came back.
    #[serde(rename = "hold.captured")]
    HoldCaptured,
    /// Credits that had been set aside came back.
    #[serde(rename = "hold.released")]
    HoldReleased,
    /// Credits that had been set aside came back because the time was over.
    #[serde(rename = "hold.expired")]
    HoldExpired,
    /// A plan's period began.
    #[serde(rename = "subscription.renewed")]
    SubscriptionRenewed,
    /// A balance fell to where a rule wants it told.
    #[serde(rename = "balance.low")]
    BalanceLow,
    /// Nothing of a type of credits can be spent any more, and a rule wants it told.
    #[serde(rename = "balance.depleted")]
    BalanceDepleted,
    /// A balance of which it was told that it is low or depleted rose again.
    #[serde(rename = "balance.recovered")]
    BalanceRecovered,
    /// Credits are asked for, to be granted.
    #[serde(rename = "topup.requested")]
    TopUpRequested,
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 15] = [
        Self::GrantCreated,
        Self::GrantExpired,
        Self::GrantVoided,
        Self::CreditsConsumed,
        Self::CreditsRefused,
        Self::CreditsRefunded,
        Self::HoldPlaced,
        Self::HoldCaptured,
        Self::HoldReleased,
        Self::HoldExpired,
        Self::SubscriptionRenewed,
        Self::BalanceLow,
        Self::BalanceDepleted,
        Self::BalanceRecovered,
        Self::TopUpRequested,
    ];

    /// The name in JSON and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GrantCreated => "grant.created",
            Self::GrantExpired => "grant.expired",
            Self::GrantVoided => "grant.voided",
            Self::CreditsConsumed => "credits.consumed",
            Self::CreditsRefused => "credits.refused",
            Self::CreditsRefunded => "credits.refunded",
            Self::HoldPlaced => "hold.placed",
            Self::HoldCaptured => "hold.captured",
            Self::HoldReleased => "hold.released",
            Self::HoldExpired => "hold.expired",
            Self::SubscriptionRenewed => "subscription.renewed",
            Self::BalanceLow => "balance.low",
            Self::BalanceDepleted => "balance.depleted",
            Self::BalanceRecovered => "balance.recovered",
            Self::TopUpRequested => "topup.requested",
        }
    }

    /// The type of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether only those who name it get it: there is one for every consumption.
    pub const fn is_opt_in(self) -> bool {
        matches!(self, Self::CreditsConsumed)
    }

    /// Whether it is raised, and stored, rather than seen in the ledger.
    pub const fn is_raised(self) -> bool {
        matches!(self, Self::BalanceLow | Self::BalanceDepleted | Self::BalanceRecovered | Self::TopUpRequested)
    }

    /// The events that a movement makes, in the order in which they are told.
    ///
    /// A period's grant is a grant, and a capture spends: whoever counts lots or spending hears of all of them. That a
    /// grant of earlier has begun, and corrections, make none.
    pub const fn of_movement(kind: MovementKind) -> &'static [Self] {
        match kind {
            MovementKind::Grant => &[Self::GrantCreated],
            MovementKind::PeriodGrant => &[Self::GrantCreated, Self::SubscriptionRenewed],
            MovementKind::Expiry => &[Self::GrantExpired],
            MovementKind::Void => &[Self::GrantVoided],
            MovementKind::Consumption => &[Self::CreditsConsumed],
            MovementKind::Refund => &[Self::CreditsRefunded],
            MovementKind::Hold => &[Self::HoldPlaced],
            MovementKind::Capture => &[Self::HoldCaptured, Self::CreditsConsumed],
            MovementKind::Release => &[Self::HoldReleased],
            MovementKind::HoldExpiry => &[Self::HoldExpired],
            MovementKind::Activation | MovementKind::Adjustment => &[],
        }
    }
}

/// What an event is known by, the same however often it is told: `evt_` and its place in the ledger.
///
/// It has no dot, which separates it from what follows where it is signed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(String);

impl EventId {
    /// The events of a movement, in their order, each with its id.
    pub fn of_movement(
        organization_id: OrganizationId,
        sequence: i64,
        kind: MovementKind,
    ) -> impl Iterator<Item = (Self, EventType)> {
        let organization = organization_id.uuid().simple();
        let events = EventType::of_movement(kind).iter().enumerate();
        events.map(move |(place, event)| (Self(format!("evt_{organization}_{sequence}_{place}")), *event))
    }

    /// The event of a refused attempt, which has no number in the ledger.
    pub fn of_refusal(id: ConsumptionId) -> Self {
        Self(format!("evt_{}", id.uuid().simple()))
    }

    /// The raised event of that number, which is dense within the organization.
    pub fn of_raised(organization_id: OrganizationId, number: i64) -> Self {
        Self(format!("evt_{}_r{number}", organization_id.uuid().simple()))
    }

    /// The id that was written so, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        let id = Self(text.to_owned());
        id.place().is_some().then_some(id)
    }

    /// Where what it tells of is to be found. `None` is the id of nothing.
    pub fn place(&self) -> Option<EventPlace> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0 && number.to_string() == text);
        let mut parts = self.0.strip_prefix("evt_")?.split('_');
        let uuid =
            parts.next().filter(|text| text.len() == 32 && !text.bytes().any(|byte| byte.is_ascii_uppercase()))?;
        let uuid = Uuid::try_parse(uuid).ok()?;
        let organization_id = OrganizationId::new(uuid);
        let place = match (parts.next(), parts.next()) {
            (None, _) => EventPlace::Refusal(ConsumptionId::new(uuid)),
            (Some(raised), None) => EventPlace::Raised { organization_id, number: number(raised.strip_prefix('r')?)? },
            (Some(sequence), Some(place)) => EventPlace::Movement {
                organization_id,
                sequence: number(sequence)?,
                place: usize::try_from(number(place)?).ok()?,
            },
        };
        parts.next().is_none().then_some(place)
    }

    /// The id as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where what an event tells of is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventPlace {
    /// Among the movements.
    Movement {
        /// Whose.
        organization_id: OrganizationId,
        /// The movement.
        sequence: i64,
        /// Which of its events, from 0.
        place: usize,
    },
    /// Among the refused attempts. Whose, it does not say.
    Refusal(ConsumptionId),
    /// Among the raised events.
    Raised {
        /// Whose.
        organization_id: OrganizationId,
        /// Its number.
        number: i64,
    },
}

impl EventPlace {
    /// Whose event it is, where the id says so.
    pub const fn organization_id(self) -> Option<OrganizationId> {
        match self {
            Self::Movement { organization_id, .. } | Self::Raised { organization_id, .. } => Some(organization_id),
            Self::Refusal(_) => None,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_type_has_one_name_in_json_and_elsewhere() {
        for event in EventType::ALL {
            assert_eq!(EventType::from_name(event.as_str()), Some(event));
            assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
        }
        assert_eq!(EventType::ALL.iter().map(|event| event.as_str()).collect::<BTreeSet<_>>().len(), 15);
        assert_eq!(EventType::from_name("grant.createD"), None);
    }

    #[test]
    fn every_type_comes_from_a_movement_a_refusal_or_is_raised() {
        let made = MovementKind::ALL.into_iter().flat_map(EventType::of_movement).copied().collect::<BTreeSet<_>>();
        let missing = EventType::ALL.into_iter().filter(|event| !made.contains(event)).collect::<Vec<_>>();
        let (raised, refused): (Vec<_>, Vec<_>) = missing.into_iter().partition(|event| event.is_raised());
        assert_eq!(refused, [EventType::CreditsRefused]);
        assert_eq!(raised.len(), 4);
        assert!(made.iter().all(|event| !event.is_raised()));
    }

    #[test]
    fn what_spends_and_what_grants_is_told_whatever_it_was_for() {
        assert!(EventType::of_movement(MovementKind::Capture).contains(&EventType::CreditsConsumed));
        assert!(EventType::of_movement(MovementKind::PeriodGrant).contains(&EventType::GrantCreated));
        assert!(EventType::of_movement(MovementKind::Adjustment).is_empty());
    }

    #[test]
    fn a_place_says_whose_event_it_is_where_the_id_does() {
        let organization_id = OrganizationId::new(Uuid::from_u128(7));
        let movement = EventPlace::Movement { organization_id, sequence: 1, place: 0 };
        for place in [movement, EventPlace::Raised { organization_id, number: 1 }] {
            assert_eq!(place.organization_id(), Some(organization_id));
        }
        let refusal = EventPlace::Refusal(ConsumptionId::new(Uuid::from_u128(7)));
        assert_eq!(refusal.organization_id(), None);
    }

    #[test]
    fn only_consumptions_must_be_asked_for() {
        let opt_in = EventType::ALL.into_iter().filter(|event| event.is_opt_in()).collect::<Vec<_>>();
        assert_eq!(opt_in, [EventType::CreditsConsumed]);
    }

    #[test]
    fn an_event_has_the_same_id_each_time_and_no_other_has_it() {
        let id = OrganizationId::new(Uuid::from_u128(0x0199_a3d2_7c50_7b2e_8a41_5f0c_9d3e_1b27));
        let of = |sequence, kind| EventId::of_movement(id, sequence, kind).collect::<Vec<_>>();
        let captured = of(12, MovementKind::Capture);
        assert_eq!(captured, of(12, MovementKind::Capture));
        let texts = captured.iter().map(|(id, event)| (id.as_str(), event.as_str())).collect::<Vec<_>>();
        assert_eq!(
            texts,
            [
                ("evt_0199a3d27c507b2e8a415f0c9d3e1b27_12_0", "hold.captured"),
                ("evt_0199a3d27c507b2e8a415f0c9d3e1b27_12_1", "credits.consumed"),
            ]
        );
        assert_eq!(of(12, MovementKind::Activation), []);
        assert_ne!(of(1, MovementKind::Grant), of(11, MovementKind::Grant));
        let refusal = EventId::of_refusal(ConsumptionId::new(id.uuid()));
        assert_eq!(refusal.to_string(), "evt_0199a3d27c507b2e8a415f0c9d3e1b27");
        let raised = EventId::of_raised(id, 12);
        assert_eq!(raised.to_string(), "evt_0199a3d27c507b2e8a415f0c9d3e1b27_r12");
        assert!(captured.iter().all(|(id, _)| *id != refusal && *id != raised && !id.as_str().contains('.')));
    }

    #[test]
    fn an_id_leads_back_to_what_it_tells_of() {
        let organization_id = OrganizationId::new(Uuid::from_u128(0x0199_a3d2_7c50_7b2e_8a41_5f0c_9d3e_1b27));
        let (captured, _) = EventId::of_movement(organization_id, 12, MovementKind::Capture).nth(1).unwrap();
        let refusal = ConsumptionId::new(organization_id.uuid());
        let cases = [
            (captured, EventPlace::Movement { organization_id, sequence: 12, place: 1 }),
            (EventId::of_refusal(refusal), EventPlace::Refusal(refusal)),
            (EventId::of_raised(organization_id, 7), EventPlace::Raised { organization_id, number: 7 }),
        ];
        for (id, place) in cases {
            assert_eq!(EventId::parse(id.as_str()), Some(id.clone()));
            assert_eq!(id.place(), Some(place));
        }
        let organization = organization_id.uuid().simple();
        for rest in ["_", "_1", "_r", "_r-1", "_r01", "_1_", "_1_+1", "_1_2_3", "_x_1", "_r1_1", " "] {
            assert_eq!(EventId::parse(&format!("evt_{organization}{rest}")), None, "{rest}");
        }
        for bad in ["", "evt_", "0199a3d27c507b2e8a415f0c9d3e1b27", "evt_0199A3D27C507B2E8A415F0C9D3E1B27"] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }
}
