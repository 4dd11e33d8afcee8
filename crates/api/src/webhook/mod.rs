//! The way out: what this server needs to send webhooks to addresses that customers name.
//!
//! Where a webhook may go and how it is signed are rules of the domain; [`target`] reads the URLs and [`gate`] opens the
//! connections, the only ones that are opened because a customer said so. [`payload`] is what is sent, [`courier`] sends
//! it once, and [`deliverer`] sees to it that everything is sent that is to be.

pub mod courier;
pub mod deliverer;
pub mod gate;
pub mod payload;
pub mod target;
