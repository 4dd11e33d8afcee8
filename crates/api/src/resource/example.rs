//! Values for the examples in the OpenAPI document: one organization's afternoon, so that the examples fit together.

use multicredit_domain::{Amount, CreditType, Credits, OrganizationId, Quantity, Timestamp};
use uuid::Uuid;

use crate::wire::{Text, Wire};

/// The organization.
pub const ORGANIZATION_ID: OrganizationId = OrganizationId::new(id(0x0199_a3d2_7c50_7b2e_8a41_5f0c_9d3e_1b27));

/// A grant of its credits.
pub const GRANT_ID: Uuid = id(0x0199_a3d2_9e14_7c63_b7d5_2a6e_8f01_4c39);

/// A consumption.
pub const CONSUMPTION_ID: Uuid = id(0x0199_a3d4_51a8_7f2b_9c0e_7d4b_3a52_6e18);

/// A hold.
pub const HOLD_ID: Uuid = id(0x0199_a3d3_c2f6_7a1d_8e35_4b90_6d7c_f182);

/// A refund.
pub const REFUND_ID: Uuid = id(0x0199_a3d5_7e03_7d48_b6a9_1c5f_82e4_3097);

/// An adjustment.
pub const ADJUSTMENT_ID: Uuid = id(0x0199_a3d5_e9b2_7c06_93fd_6a28_0b5e_47d1);

/// An alert rule.
pub const ALERT_RULE_ID: Uuid = id(0x0199_a3d2_b1c8_7e44_9d07_3f6b_58a2_c015);

/// A request for credits.
pub const TOP_UP_ID: Uuid = id(0x0199_a3d6_4f20_7b93_8ac1_5e7d_2096_f84b);

/// An API key.
pub const API_KEY_ID: Uuid = id(0x0199_a3d1_0b77_7a90_a2f4_6c1d_5e83_9b40);

/// An endpoint of webhooks.
pub const ENDPOINT_ID: Uuid = id(0x0199_a3d6_4f1e_7b05_9d2c_8e71_6a40_b3f5);

/// An attempt to deliver a webhook.
pub const DELIVERY_ID: Uuid = id(0x0199_a3d6_8a2b_7c94_a5e0_3f17_d90c_64b8);

/// The id of a request.
pub const REQUEST_ID: &str = "0199a3d4-519f-7d11-8c3a-1f5e7b902d64";

const fn id(value: u128) -> Uuid {
    Uuid::from_u128(value)
}

/// A value from its text.
pub fn text<T: Text>(text: &str) -> Wire<T> {
    T::parse(text).map_or_else(|reason| panic!("an example that is none: {text} {reason}"), Wire)
}

/// An instant of that afternoon.
pub fn time() -> Wire<Timestamp> {
    text("2026-11-22T09:30:00.123456Z")
}

/// A quantity.
pub fn quantity(value: i64) -> Wire<Quantity> {
    Wire(Quantity::new(value).expect("an example is in range"))
}

/// AI and WhatsApp credits.
pub fn credits(ai: i64, whatsapp: i64) -> Credits {
    let mut credits = Credits::ZERO;
    credits[CreditType::Ai] = amount(ai);
    credits[CreditType::Whatsapp] = amount(whatsapp);
    credits
}

/// An amount.
pub fn amount(value: i64) -> Amount {
    Amount::new(value).expect("an example is in range")
}
