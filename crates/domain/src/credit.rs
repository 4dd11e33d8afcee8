//! Credit types, and vectors over them.
//!
//! Every balance, cost and movement is a vector over all types. Whatever needs a list of the types takes it from
//! [`CreditType::ALL`], so that a further type is one variant here and one migration, with the compiler and one test
//! finding the rest (`docs/adding-a-credit-type.md`).

use std::fmt;
use std::ops::{Index, IndexMut};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::amount::Amount;

/// A kind of credit that an organization holds a balance of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum CreditType {
    /// AI chat, tokens, images.
    Ai,
    /// WhatsApp messages.
    Whatsapp,
    /// E-mail.
    Email,
    /// Text messages.
    Sms,
}

/// How many credit types there are.
pub const COUNT: usize = CreditType::ALL.len();

impl CreditType {
    /// Every type, in the order of the columns and of JSON answers.
    pub const ALL: [Self; 4] = [Self::Ai, Self::Whatsapp, Self::Email, Self::Sms];

    /// The name in JSON and at the start of column names (`ai` in `ai_credits_available`).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ai => "ai",
            Self::Whatsapp => "whatsapp",
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }

    /// The type of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|credit_type| credit_type.as_str() == name)
    }
}

impl fmt::Display for CreditType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount of every credit type. In JSON an object by type; a type left out is 0, and all are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Credits([Amount; COUNT]);

impl Credits {
    /// Nothing of any type.
    pub const ZERO: Self = Self([Amount::ZERO; COUNT]);

    /// A vector that holds `amount` of one type and nothing else.
    #[must_use]
    pub fn of(credit_type: CreditType, amount: Amount) -> Self {
        let mut credits = Self::ZERO;
        credits[credit_type] = amount;
        credits
    }

    /// The vector of amounts in the order of [`CreditType::ALL`].
    pub const fn from_array(amounts: [Amount; COUNT]) -> Self {
        Self(amounts)
    }

    /// The amounts in the order of [`CreditType::ALL`].
    pub const fn to_array(self) -> [Amount; COUNT] {
        self.0
    }

    /// The amounts with their types.
    pub fn iter(self) -> impl Iterator<Item = (CreditType, Amount)> {
        CreditType::ALL.into_iter().zip(self.0)
    }

    /// The vector of sums, which are not negative and may be beyond the range of [`Amount`]: then they are its end.
    pub fn from_sums(sums: [i64; COUNT]) -> Self {
        Self(sums.map(|sum| Amount::new(sum.clamp(0, crate::amount::MAX)).unwrap_or_default()))
    }

    /// Whether there is nothing of any type.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether every type of `self` is covered by `other`.
    pub fn fits_in(self, other: Self) -> bool {
        self.0.iter().zip(other.0).all(|(mine, theirs)| *mine <= theirs)
    }

    /// The sum by type, or `None` if any is beyond the range of [`Amount`].
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.try_zip(other, Amount::checked_add)
    }

    /// The difference by type, or `None` if any would be negative.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.try_zip(other, Amount::checked_sub)
    }

    /// The sum by type; where it is beyond the range of [`Amount`], the end of that.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self::from_sums(std::array::from_fn(|i| self.0[i].get() + other.0[i].get()))
    }

    /// What is left by type after taking `other`, at least nothing: with `self` required and `other` available, the shortfall.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        self.zip(other, Amount::saturating_sub)
    }

    /// The smaller of the two by type.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        self.zip(other, Amount::min)
    }

    /// The vector times a number of units, or `None` if any type goes beyond the range of [`Amount`].
    pub fn checked_mul(self, units: i64) -> Option<Self> {
        self.try_zip(self, |amount, _| amount.checked_mul(units))
    }

    fn zip(self, other: Self, f: impl Fn(Amount, Amount) -> Amount) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    fn try_zip(self, other: Self, f: impl Fn(Amount, Amount) -> Option<Amount>) -> Option<Self> {
        let mut result = Self::ZERO;
        for i in 0..COUNT {
            result.0[i] = f(self.0[i], other.0[i])?;
        }
        Some(result)
    }
}

impl Index<CreditType> for Credits {
    type Output = Amount;

    fn index(&self, credit_type: CreditType) -> &Amount {
        &self.0[credit_type as usize]
    }
}

impl IndexMut<CreditType> for Credits {
    fn index_mut(&mut self, credit_type: CreditType) -> &mut Amount {
        &mut self.0[credit_type as usize]
    }
}

impl fmt::Display for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (credit_type, amount)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{credit_type} {}", amount.get())?;
        }
        Ok(())
    }
}

impl Serialize for Credits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COUNT))?;
        for (credit_type, amount) in self.iter() {
            map.serialize_entry(credit_type.as_str(), &amount)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Credits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(by_type(deserializer, Amount::ZERO)?))
    }
}

/// Reads an object by credit type: a type left out is `absent`, an unknown or repeated one is an error.
fn by_type<'de, D: Deserializer<'de>, T: Deserialize<'de> + Copy>(
    deserializer: D,
    absent: T,
) -> Result<[T; COUNT], D::Error> {
    struct ByType<T>(T);

    impl<'de, T: Deserialize<'de> + Copy> Visitor<'de> for ByType<T> {
        type Value = [T; COUNT];

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of whole numbers by credit type")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<[T; COUNT], A::Error> {
            let mut values = [None; COUNT];
            while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                let credit_type =
                    CreditType::from_name(&name).ok_or_else(|| A::Error::custom("unknown credit type"))?;
                let value = &mut values[credit_type as usize];
                if value.replace(map.next_value()?).is_some() {
                    return Err(A::Error::custom(format_args!("duplicate field `{credit_type}`")));
                }
            }
            Ok(values.map(|value| value.unwrap_or(self.0)))
        }
    }

    deserializer.deserialize_map(ByType(absent))
}

/// A signed change of every credit type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Delta([i64; COUNT]);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self([0; COUNT]);

    /// The change by type, in the order of [`CreditType::ALL`].
    pub const fn from_array(changes: [i64; COUNT]) -> Self {
        Self(changes)
    }

    /// The change by type, in the order of [`CreditType::ALL`].
    pub const fn to_array(self) -> [i64; COUNT] {
        self.0
    }

    /// What leads from `before` to `after`.
    pub fn between(before: Credits, after: Credits) -> Self {
        Self(std::array::from_fn(|i| after.0[i].get() - before.0[i].get()))
    }

    /// `credits` with this change, or `None` if a type would leave the range of [`Amount`].
    pub fn apply(self, credits: Credits) -> Option<Credits> {
        let mut result = Credits::ZERO;
        for i in 0..COUNT {
            result.0[i] = Amount::new(credits.0[i].get().checked_add(self.0[i])?).ok()?;
        }
        Some(result)
    }

    /// The changes with their types.
    pub fn iter(self) -> impl Iterator<Item = (CreditType, i64)> {
        CreditType::ALL.into_iter().zip(self.0)
    }
}

impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(COUNT))?;
        for (credit_type, change) in self.iter() {
            map.serialize_entry(credit_type.as_str(), &change)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(by_type(deserializer, 0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_left_out_are_zero_and_all_are_written() {
        let credits: Credits = serde_json::from_str(r#"{"whatsapp": 1, "ai": 3}"#).unwrap();
        assert_eq!(serde_json::to_string(&credits).unwrap(), r#"{"ai":3,"whatsapp":1,"email":0,"sms":0}"#);
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for bad in [
            r#"{"ai": -1}"#,
            r#"{"ai": 1.0}"#,
            r#"{"ai": "1"}"#,
            r#"{"ai": 9007199254740992}"#,
            r#"{"ai": 1, "ai": 1}"#,
            r#"{"voice": 1}"#,
            r#"{"AI": 1}"#,
            "[1]",
            "null",
            "1e3",
        ] {
            assert!(serde_json::from_str::<Credits>(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn what_is_expected_is_said() {
        let error = serde_json::from_str::<Credits>("[1]").unwrap_err().to_string();
        assert!(error.contains("expected an object of whole numbers by credit type"), "{error}");
    }

    #[test]
    fn credits_are_shown_by_type() {
        assert_eq!(Credits::from_sums([3, 1, 0, 9]).to_string(), "ai 3, whatsapp 1, email 0, sms 9");
        assert_eq!(CreditType::ALL.map(|credit_type| credit_type.to_string()), ["ai", "whatsapp", "email", "sms"]);
    }

    #[test]
    fn all_types_keep_their_place() {
        for (i, credit_type) in CreditType::ALL.into_iter().enumerate() {
            assert_eq!(credit_type as usize, i);
            assert_eq!(CreditType::from_name(credit_type.as_str()), Some(credit_type));
        }
    }
}
