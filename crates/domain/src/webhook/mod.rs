//! Webhooks: the rules by which events are sent to addresses of customers.
//!
//! Where they may go ([`address`]), which events go there ([`filter`]), how they are signed ([`secret`]), and what an answer
//! means and when it is tried again ([`attempt`]). What is sent is in [`event`](crate::event).

pub mod address;
pub mod attempt;
pub mod filter;
pub mod secret;

pub use address::{InvalidNetwork, Network, is_public};
pub use attempt::{Verdict, retry_delay};
pub use filter::EventFilter;
pub use secret::{InvalidSecret, WebhookSecret};
