//! How long a hold lasts.

use multicredit_domain::hold::{TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX};
use poem_openapi::registry::MetaSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Shape;

/// How long a hold lasts, in seconds: from 1 to as many as a day has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlSeconds(i64);

impl TtlSeconds {
    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl Default for TtlSeconds {
    fn default() -> Self {
        Self(TTL_SECONDS_DEFAULT)
    }
}

impl Shape for TtlSeconds {
    const NAME: &'static str = "TtlSeconds";

    fn schema() -> MetaSchema {
        const _: () = assert!(TTL_SECONDS_MAX == 86_400, "the schema names this limit");
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(86_400.0),
            example: Some(TTL_SECONDS_DEFAULT.into()),
            ..MetaSchema::new_with_format("integer", "int64")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = i64::deserialize(deserializer)?;
        if (1..=TTL_SECONDS_MAX).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(D::Error::custom(format_args!("must be a whole number from 1 to {TTL_SECONDS_MAX}")))
        }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    #[test]
    fn a_hold_lasts_from_a_second_to_a_day() {
        let read = serde_json::from_str::<Wire<TtlSeconds>>;
        for good in ["1", "300", "86400"] {
            assert_eq!(read(good).unwrap().0.get().to_string(), good);
        }
        for bad in ["0", "-1", "86401", "1.0", "1e2", "9223372036854775808", "\"1\"", "null"] {
            assert!(read(bad).is_err(), "{bad} was accepted");
        }
        assert_eq!(TtlSeconds::default().get(), 300);
    }
}
