//! Webhooks: the rules by which events are sent to addresses of customers.
//!
//! Where they may go ([`address`]), how they are signed ([`secret`]), and what an answer means and when it is tried again
//! ([`attempt`]). What is sent is in [`event`](crate::event).

pub mod address;
pub mod attempt;
pub mod secret;

pub use address::{InvalidNetwork, Network, is_public};
pub use attempt::{Verdict, retry_delay};
pub use secret::{InvalidSecret, WebhookSecret};
