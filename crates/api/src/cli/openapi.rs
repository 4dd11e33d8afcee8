//! `multicredit openapi`: the OpenAPI document, without a server and without a database.

use super::{Outcome, output};
use crate::app;

/// Prints the document.
pub fn run() -> anyhow::Result<Outcome> {
    output::print(app::openapi_json().trim_end())?;
    Ok(Outcome::Success)
}
