//! The body of operations that need none: `{}`, which may be left out.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::{Deserialize, Serialize};

/// An object without fields.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(example)]
pub struct NoFields {}

impl Example for NoFields {
    fn example() -> Self {
        Self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::parse_object;

    #[test]
    fn an_object_without_fields_has_none() {
        assert!(parse_object::<NoFields>("{}").is_ok());
        for bad in [r#"{"reason":"x"}"#, "[]", "null", "1", ""] {
            assert!(parse_object::<NoFields>(bad).is_err(), "{bad} was accepted");
        }
    }
}
