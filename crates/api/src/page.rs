//! The one way to page: `limit` and an opaque `cursor`, a page of `items` and the `next_cursor`.
//!
//! A cursor is the position of the last item seen: a version, which list it belongs to, and the position, in base64 that
//! needs no escaping in a URL. It holds nothing that its reader was not shown, it is no secret and needs no signature: a
//! made-up one merely begins the page elsewhere in a list that its reader may see anyway.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use multicredit_domain::{
    ActionType, AlertRuleId, ApiKeyId, ConsumptionId, CreditType, DeliveryId, EndpointId, GrantId, HoldId,
    OrganizationId, Timestamp, TopUpId,
};
use multicredit_store::{AuditPosition, LedgerPosition, LogPosition, PageRequest};
use poem_openapi::Object;
use poem_openapi::registry::MetaSchema;
use poem_openapi::types::{Example, ParseFromJSON, ToJSON, Type};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::limits::{CURSOR_MAX_BYTES, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
use crate::param::Query;
use crate::problem::Problem;
use crate::wire::{Reason, Text};

/// The version of the cursors that are made; others are refused.
const VERSION: u8 = 1;

/// A position in a list.
pub trait Position: Sized {
    /// Which list: a cursor of one list is refused by the others.
    const LIST: u8;

    /// Appends the position.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Reads what [`write`](Self::write) wrote.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! ids {
    ($($id:ty = $list:literal;)+) => {$(
        impl Position for $id {
            const LIST: u8 = $list;

            fn write(&self, bytes: &mut Vec<u8>) {
                bytes.extend(self.uuid().as_bytes());
            }

            fn read(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self::new)
            }
        }
    )+};
}

ids! {
    OrganizationId = 1;
    GrantId = 2;
    ApiKeyId = 3;
    HoldId = 7;
    AlertRuleId = 20;
    TopUpId = 21;
    EndpointId = 12;
    DeliveryId = 13;
}

impl Position for ActionType {
    const LIST: u8 = 4;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.as_str().as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::new(std::str::from_utf8(bytes).ok()?).ok()
    }
}

impl Position for LogPosition {
    const LIST: u8 = 5;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.created_at.timestamp_micros().to_be_bytes());
        bytes.extend(self.id.uuid().as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (created_at, id) = bytes.split_first_chunk()?;
        let created_at = Timestamp::from_timestamp_micros(i64::from_be_bytes(*created_at))?;
        Some(Self { created_at, id: ConsumptionId::new(Uuid::from_slice(id).ok()?) })
    }
}

impl Position for LedgerPosition {
    const LIST: u8 = 6;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.created_at.timestamp_micros().to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (sequence, created_at) = bytes.split_first_chunk()?;
        let created_at = Timestamp::from_timestamp_micros(i64::from_be_bytes(created_at.try_into().ok()?))?;
        Some(Self { sequence: i64::from_be_bytes(*sequence), created_at })
    }
}

/// A place among the members of an organization: the user.
impl Position for String {
    const LIST: u8 = 8;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        // PostgreSQL takes no text with a NUL, and no user is called so.
        Self::from_utf8(bytes.to_vec()).ok().filter(|user| !user.contains('\0'))
    }
}

/// A place among the organizations of a user, which stand in another order than all organizations do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipPosition(pub OrganizationId);

impl Position for MembershipPosition {
    const LIST: u8 = 9;

    fn write(&self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        OrganizationId::read(bytes).map(Self)
    }
}

/// A place in the summary of usage, which stands in another order than all organizations do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SummaryPosition(pub OrganizationId);

impl Position for SummaryPosition {
    const LIST: u8 = 10;

    fn write(&self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        OrganizationId::read(bytes).map(Self)
    }
}

impl Position for AuditPosition {
    const LIST: u8 = 11;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.created_at.timestamp_micros().to_be_bytes());
        bytes.extend(self.chain.as_bytes());
        bytes.extend(self.sequence.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (created_at, rest) = bytes.split_first_chunk()?;
        let (chain, sequence) = rest.split_first_chunk()?;
        let created_at = Timestamp::from_timestamp_micros(i64::from_be_bytes(*created_at))?;
        let sequence = i64::from_be_bytes(sequence.try_into().ok()?);
        Some(Self { created_at, chain: Uuid::from_bytes(*chain), sequence })
    }
}

impl Position for CreditType {
    const LIST: u8 = 22;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.as_str().as_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::from_name(std::str::from_utf8(bytes).ok()?)
    }
}

/// A place among the raised events of an organization: the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaisedPosition(pub i64);

impl Position for RaisedPosition {
    const LIST: u8 = 23;

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.to_be_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Some(Self(i64::from_be_bytes(bytes.try_into().ok()?)))
    }
}

/// How many items a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u32);

impl Text for Limit {
    const NAME: &'static str = "Limit";

    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(1.0),
            maximum: Some(f64::from(PAGE_LIMIT_MAX)),
            default: Some(PAGE_LIMIT_DEFAULT.into()),
            ..MetaSchema::new_with_format("integer", "int32")
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        // Digits alone: Rust would also read a leading plus sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| digits && (1..=PAGE_LIMIT_MAX).contains(limit));
        limit.map(Self).ok_or_else(|| Cow::Owned(format!("must be a whole number from 1 to {PAGE_LIMIT_MAX}")))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// A cursor as it was sent: which list it belongs to is checked by [`request`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

const BAD_CURSOR: Reason = Cow::Borrowed("must be a next_cursor of this list, unchanged");

impl Text for Cursor {
    const NAME: &'static str = "Cursor";

    fn schema() -> MetaSchema {
        MetaSchema {
            min_length: Some(1),
            max_length: Some(CURSOR_MAX_BYTES),
            pattern: Some("^[A-Za-z0-9_-]+$".to_owned()),
            ..MetaSchema::new("string")
        }
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        if text.len() > CURSOR_MAX_BYTES {
            return Err(BAD_CURSOR);
        }
        URL_SAFE_NO_PAD.decode(text).map(Self).map_err(|_| BAD_CURSOR)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

/// The page that `limit` and `cursor` ask for.
pub fn request<P: Position>(
    Query(limit): Query<Limit>,
    Query(cursor): Query<Cursor>,
) -> Result<PageRequest<P>, Problem> {
    let limit = limit.map_or(PAGE_LIMIT_DEFAULT, |limit| limit.0);
    let after = cursor.as_ref().map(position).transpose()?;
    Ok(PageRequest { after, limit })
}

fn position<P: Position>(Cursor(bytes): &Cursor) -> Result<P, Problem> {
    let position = bytes.strip_prefix(&[VERSION, P::LIST]).and_then(P::read);
    position.ok_or_else(|| Problem::invalid("cursor", BAD_CURSOR))
}

/// The position that a cursor stands for, if it is one of this list.
pub fn decode<P: Position>(cursor: &str) -> Result<P, Problem> {
    position(&Cursor::parse(cursor).map_err(|reason| Problem::invalid("cursor", reason))?)
}

/// The cursor that stands for a position.
pub fn encode<P: Position>(position: &P) -> String {
    let mut bytes = vec![VERSION, P::LIST];
    position.write(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One page of a list.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub struct Page<T: Type + ParseFromJSON + ToJSON> {
    /// The items, in the list's order.
    items: Vec<T>,
    /// Where the next page begins: send it as `cursor`. `null` at the end.
    #[oai(nullable)]
    next_cursor: Option<String>,
}

impl<T: Type + ParseFromJSON + ToJSON> Page<T> {
    /// A page of the store's, with its items as they are shown.
    pub fn of<S, P: Position>(page: multicredit_store::Page<S, P>, show: impl FnMut(S) -> T) -> Self {
        Self { next_cursor: page.next.as_ref().map(encode), items: page.items.into_iter().map(show).collect() }
    }

    /// The items and the `next_cursor`, for a list that says more than those.
    pub fn into_parts(self) -> (Vec<T>, Option<String>) {
        (self.items, self.next_cursor)
    }
}

impl<T: Type + ParseFromJSON + ToJSON + Example> Example for Page<T> {
    fn example() -> Self {
        Self { items: vec![T::example()], next_cursor: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::UserId;

    fn round_trip<P: Position>(position: &P) -> P {
        let cursor = Cursor::parse(&encode(position)).unwrap();
        request(Query(None), Query(Some(cursor))).unwrap().after.unwrap()
    }

    #[test]
    fn positions_survive_being_cursors() {
        let id = Uuid::from_u128(0x0199_a3d2_7c50_7b2e_8a41_5f0c_9d3e_1b27);
        let created_at = Timestamp::from_timestamp_micros(1_763_800_000_123_456).unwrap();
        let position = LogPosition { created_at, id: ConsumptionId::new(id) };
        assert_eq!(round_trip(&position), position);
        assert_eq!(round_trip(&GrantId::new(id)), GrantId::new(id));
        let line = LedgerPosition { sequence: i64::MAX, created_at };
        assert_eq!(round_trip(&line), line);
        let line = AuditPosition { created_at, chain: id, sequence: i64::MAX };
        assert_eq!(round_trip(&line), line);
        let longest = ActionType::new("a".repeat(ActionType::MAX_CHARS)).unwrap();
        assert_eq!(round_trip(&longest), longest);
        let organization = MembershipPosition(OrganizationId::new(id));
        assert_eq!(round_trip(&organization), organization);
        let user = "\u{1f600}".repeat(UserId::MAX_CHARS);
        assert_eq!(round_trip(&user), user);
        for encoded in [encode(&longest), encode(&user)] {
            assert!(encoded.len() <= CURSOR_MAX_BYTES);
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list_and_version_only() {
        let bad = |bytes: &[u8]| {
            let cursor = Query(Some(Cursor(bytes.to_vec())));
            assert!(request::<GrantId>(Query(None), cursor).is_err(), "{bytes:?} was accepted");
        };
        let mut good = vec![VERSION, GrantId::LIST];
        Position::write(&GrantId::new(Uuid::from_u128(7)), &mut good);
        assert!(request::<GrantId>(Query(None), Query(Some(Cursor(good.clone())))).is_ok());
        bad(&[]);
        bad(&good[..good.len() - 1]);
        bad(&[&good[..], &[0]].concat());
        bad(&[&[VERSION + 1], &good[1..]].concat());
        bad(&[&[VERSION, ApiKeyId::LIST], &good[2..]].concat());
        bad(&[&[VERSION, MembershipPosition::LIST], &good[2..]].concat());
        for user in [&b"\xff"[..], b"a\0b"] {
            assert_eq!(String::read(user), None);
        }
        for text in ["***", "a", "AQ==", &"A".repeat(CURSOR_MAX_BYTES + 1)] {
            assert!(Cursor::parse(text).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn a_limit_is_1_to_100_and_20_where_nothing_is_said() {
        assert_eq!(request::<GrantId>(Query(None), Query(None)).unwrap().limit, 20);
        assert_eq!(Limit::parse("100"), Ok(Limit(100)));
        for bad in ["", "0", "101", "-1", "+1", "1.0", "ten", " 1"] {
            assert!(Limit::parse(bad).is_err(), "{bad} was accepted");
        }
    }
}
