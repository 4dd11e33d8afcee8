//! Whole numbers.

use std::fmt;

use multicredit_domain::{Amount, Quantity, amount};
use poem_openapi::registry::MetaSchema;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};

use super::Shape;

/// The bounds of amounts and quantities as JSON Schema wants them.
pub mod bounds {
    /// [`multicredit_domain::amount::MAX`], which a double holds exactly.
    pub const MAX: f64 = 9_007_199_254_740_991.0;
    /// The least change of a balance.
    pub const MIN_CHANGE: f64 = -MAX;
}

impl Shape for Quantity {
    const NAME: &'static str = "Quantity";

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some("How often, or how much of, the action: in the action's own units."),
            minimum: Some(1.0),
            maximum: Some(bounds::MAX),
            example: Some(1.into()),
            ..MetaSchema::new_with_format("integer", "int64")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_i64(QuantityVisitor)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

/// Says the range in every message, whatever came instead.
struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {}", amount::MAX)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Quantity, E> {
        Quantity::new(value).map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Quantity, E> {
        let value = i64::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
        self.visit_i64(value)
    }
}

impl Shape for Amount {
    const NAME: &'static str = "Amount";

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some("A number of credits."),
            minimum: Some(0.0),
            maximum: Some(bounds::MAX),
            ..MetaSchema::new_with_format("integer", "int64")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        Self::new(i64::deserialize(deserializer)?).map_err(D::Error::custom)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

/// A value where `null` says something else than saying nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nullable<T>(pub Option<T>);

impl Shape for Nullable<i64> {
    const NAME: &'static str = "NullableInteger";

    fn schema() -> MetaSchema {
        MetaSchema {
            nullable: true,
            minimum: Some(1.0),
            maximum: Some(bounds::MAX),
            ..MetaSchema::new_with_format("integer", "int64")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self)
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
    fn the_documented_bound_is_the_domains() {
        assert_eq!(format!("{:.0}", bounds::MAX), amount::MAX.to_string());
    }

    #[test]
    fn only_whole_numbers_in_range_are_quantities() {
        for good in ["1", "9007199254740991"] {
            assert!(serde_json::from_str::<Wire<Quantity>>(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "1.0", "1.5", "1e3", "9007199254740992", "18446744073709551615", "\"1\"", "null", "[1]"]
        {
            assert!(serde_json::from_str::<Wire<Quantity>>(bad).is_err(), "{bad} was accepted");
        }
    }
}
