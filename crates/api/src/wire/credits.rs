//! Vectors over the credit types. Their schemas come from [`CreditType::ALL`]: a further type documents itself.

use multicredit_domain::amount::MAX;
use multicredit_domain::{CreditType, Credits, Delta};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Shape, Wire, bounds};

impl Shape for Credits {
    const NAME: &'static str = "Credits";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        by_type(0.0, "Whole credits by type. A type left out is 0; answers write all types.")
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

impl Shape for Delta {
    const NAME: &'static str = "CreditChange";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        by_type(bounds::MIN_CHANGE, "A change of whole credits by type: negative is less than before.")
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let change = Self::deserialize(deserializer)?;
        if change.iter().all(|(_, value)| (-MAX..=MAX).contains(&value)) {
            Ok(change)
        } else {
            Err(D::Error::custom(format_args!("must hold whole numbers from -{MAX} to {MAX}")))
        }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize(serializer)
    }
}

/// For `#[serde(deserialize_with)]`: credits, more than 0 of at least one type.
pub fn some_credits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wire<Credits>, D::Error> {
    let credits = Wire::<Credits>::deserialize(deserializer)?;
    if credits.0.is_zero() {
        return Err(D::Error::custom("must be more than 0 for at least one credit type"));
    }
    Ok(credits)
}

/// For `#[serde(deserialize_with)]`: a change of credits, other than 0 of at least one type.
pub fn some_change<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wire<Delta>, D::Error> {
    let change = Wire::<Delta>::deserialize(deserializer)?;
    if change.0 == Delta::ZERO {
        return Err(D::Error::custom("must be other than 0 for at least one credit type"));
    }
    Ok(change)
}

fn by_type(minimum: f64, description: &'static str) -> MetaSchema {
    let number = || {
        MetaSchemaRef::Inline(Box::new(MetaSchema {
            minimum: Some(minimum),
            maximum: Some(bounds::MAX),
            default: Some(0.into()),
            ..MetaSchema::new_with_format("integer", "int64")
        }))
    };
    let properties = CreditType::ALL.into_iter().map(|credit_type| (credit_type.as_str(), number())).collect();
    MetaSchema { description: Some(description), properties, ..MetaSchema::new("object") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_credit_type_is_documented_as_it_is_written() {
        let written = serde_json::to_value(Credits::ZERO).unwrap();
        let mut documented: Vec<_> = Credits::schema().properties.into_iter().map(|(name, _)| name).collect();
        documented.sort_unstable();
        let mut names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(documented, names);
    }

    #[test]
    fn a_change_stays_within_what_a_balance_can_hold() {
        let read = serde_json::from_str::<Wire<Delta>>;
        for good in ["{}", r#"{"ai":-9007199254740991,"sms":9007199254740991}"#] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            r#"{"ai":-9007199254740992}"#,
            r#"{"sms":9007199254740992}"#,
            r#"{"ai":-9223372036854775808}"#,
            r#"{"ai":1.0}"#,
        ] {
            assert!(read(bad).is_err(), "{bad} was accepted");
        }
    }
}
