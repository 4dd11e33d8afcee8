//! The requests, rendered once and then only patched: another organization, a fresh idempotency key.

use std::sync::Arc;

use chrono::{SecondsFormat, TimeDelta};
use multicredit_store::clock;
use uuid::Uuid;

/// How far back a report of usage looks.
const USAGE_PERIOD: TimeDelta = TimeDelta::days(30);

/// The rows of a page: as many as organizations have in a short history too, so that the same is asked for.
const PAGE_ROWS: u32 = 10;

/// The length of a UUID as text: of an organization's id, and of an idempotency key.
const ID_BYTES: usize = 36;

/// How many items a batch call has: the most that it takes.
pub const BATCH_ITEMS: usize = 1_000;

/// How an item of a batch call says that it was charged.
const ITEM_CREATED: &[u8] = br#""status":201"#;

/// The organizations that requests are for, and the order in which they come.
#[derive(Clone)]
pub struct Targets {
    ids: Arc<[[u8; ID_BYTES]]>,
    draws: Arc<[u32]>,
}

impl Targets {
    /// These organizations, in the order of the draws, which are places among them.
    pub fn new(organizations: &[Uuid], draws: Vec<u32>) -> Self {
        let text = |id: &Uuid| {
            let mut text = [0; ID_BYTES];
            id.hyphenated().encode_lower(&mut text);
            text
        };
        Self { ids: organizations.iter().map(text).collect(), draws: draws.into() }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `GET /health/live`.
    Nothing,
    /// `POST /v1/organizations/{id}/consume`.
    Consume,
    /// `POST /v1/consume/batch`.
    Batch,
    /// `GET /v1/organizations/{id}/balance`.
    Balance,
    /// `GET /v1/organizations/{id}/consumptions`: the newest page, of [`PAGE_ROWS`].
    Page,
    /// `GET /v1/organizations/{id}/usage` by day: the last 30 days.
    Usage,
}

impl Call {
    /// How many consumptions one request is.
    pub const fn consumptions(self) -> u64 {
        match self {
            Self::Nothing | Self::Balance | Self::Page | Self::Usage => 0,
            Self::Consume => 1,
            Self::Batch => BATCH_ITEMS as u64,
        }
    }
}

/// Where in the request the organization and the key of a consumption stand.
struct Slot {
    id: usize,
    /// None where nothing is charged.
    key: Option<usize>,
}

/// The requests of one connection, one after the other.
pub struct Requests {
    call: Call,
    bytes: Vec<u8>,
    slots: Vec<Slot>,
    targets: Targets,
    next_draw: usize,
}

impl Requests {
    /// Those of the `nth` of `connections`.
    pub fn new(call: Call, api_key: &str, targets: Targets, nth: usize, connections: usize) -> Self {
        let (bytes, slots) = render(call, api_key);
        let next_draw = targets.draws.len() * nth / connections;
        Self { call, bytes, slots, targets, next_draw }
    }

    /// The next request.
    pub fn next(&mut self) -> &[u8] {
        for Slot { id, key } in &self.slots {
            if self.next_draw == self.targets.draws.len() {
                self.next_draw = 0;
            }
            let organization = self.targets.draws[self.next_draw] as usize;
            self.next_draw += 1;
            self.bytes[*id..][..ID_BYTES].copy_from_slice(&self.targets.ids[organization]);
            if let Some(key) = key {
                // A UUIDv7, which is what the documentation asks clients for.
                clock::new_uuid().hyphenated().encode_lower(&mut self.bytes[*key..][..ID_BYTES]);
            }
        }
        &self.bytes
    }

    /// Whether the answer is the one that the request deserves: everything in it done.
    pub fn is_answered(&self, status: [u8; 3], body: &[u8]) -> bool {
        match self.call {
            Call::Nothing | Call::Balance | Call::Page | Call::Usage => status == *b"200",
            Call::Consume => status == *b"201",
            Call::Batch => status == *b"200" && count(body, ITEM_CREATED) == BATCH_ITEMS,
        }
    }
}

fn count(text: &[u8], part: &[u8]) -> usize {
    let mut found = 0;
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == part[0]) {
        rest = &rest[at..];
        if rest.starts_with(part) {
            found += 1;
        }
        rest = &rest[1..];
    }
    found
}

/// The request with room for what changes, and where that is.
fn render(call: Call, api_key: &str) -> (Vec<u8>, Vec<Slot>) {
    let (id, key) = ("i".repeat(ID_BYTES), "k".repeat(ID_BYTES));
    let common = format!("Host: 127.0.0.1\r\nAuthorization: Bearer {api_key}\r\nContent-Type: application/json\r\n");
    match call {
        Call::Nothing => (b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(), Vec::new()),
        Call::Balance => read("balance", api_key),
        Call::Page => read(&format!("consumptions?limit={PAGE_ROWS}"), api_key),
        Call::Usage => {
            let now = clock::now();
            let (from, to) = (now - USAGE_PERIOD, now);
            let [from, to] = [from, to].map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
            read(&format!("usage?bucket=day&from={from}&to={to}"), api_key)
        }
        Call::Consume => {
            let body = r#"{"action":"ai_chat","quantity":1}"#;
            let path = format!("POST /v1/organizations/{id}/consume HTTP/1.1\r\n");
            let before_key = format!("{path}{common}Idempotency-Key: ");
            let slot = Slot { id: "POST /v1/organizations/".len(), key: Some(before_key.len()) };
            let text = format!("{before_key}{key}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            (text.into_bytes(), vec![slot])
        }
        Call::Batch => {
            let before_id = r#"{"organization_id":""#;
            let before_key = format!(r#"{before_id}{id}","action":"ai_chat","quantity":1,"idempotency_key":""#);
            let item = format!(r#"{before_key}{key}"}}"#);
            let items = vec![item.as_str(); BATCH_ITEMS].join(",");
            let before_items = r#"{"items":["#;
            let length = before_items.len() + items.len() + "]}".len();
            let head =
                format!("POST /v1/consume/batch HTTP/1.1\r\n{common}Content-Length: {length}\r\n\r\n{before_items}");
            let starts = (0..BATCH_ITEMS).map(|nth| head.len() + nth * (item.len() + 1));
            let slots = starts.map(|start| Slot { id: start + before_id.len(), key: Some(start + before_key.len()) });
            let slots = slots.collect();
            (format!("{head}{items}]}}").into_bytes(), slots)
        }
    }
}

/// A request that reads something of an organization.
fn read(what: &str, api_key: &str) -> (Vec<u8>, Vec<Slot>) {
    const BEFORE_ID: &str = "GET /v1/organizations/";
    let id = "i".repeat(ID_BYTES);
    let head = format!("Host: 127.0.0.1\r\nAuthorization: Bearer {api_key}\r\n");
    let text = format!("{BEFORE_ID}{id}/{what} HTTP/1.1\r\n{head}\r\n");
    (text.into_bytes(), vec![Slot { id: BEFORE_ID.len(), key: None }])
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn targets() -> Targets {
        Targets::new(&[Uuid::from_u128(0xA), Uuid::from_u128(0xB)], vec![0, 1, 1])
    }

    fn text(requests: &mut Requests) -> String {
        String::from_utf8(requests.next().to_vec()).unwrap()
    }

    #[test]
    fn each_consumption_has_the_next_organization_and_a_fresh_key() {
        let mut requests = Requests::new(Call::Consume, "secret", targets(), 0, 1);
        let mut keys = std::collections::HashSet::new();
        for organization in ["a", "b", "b", "a"] {
            let text = text(&mut requests);
            assert!(
                text.starts_with(
                    &format!("POST /v1/organizations/{organization:0>8}")
                        .replace("0000000", "00000000-0000-0000-0000-00000000000")
                ),
                "{text}"
            );
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())));
            let key = head.split("Idempotency-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
            assert_eq!(Uuid::try_parse(key).unwrap().get_version_num(), 7);
            assert!(keys.insert(key.to_owned()));
        }
        let mut other = Requests::new(Call::Consume, "secret", targets(), 0, 1);
        let text = text(&mut other);
        assert!(keys.iter().all(|key| !text.contains(key)));
    }

    #[test]
    fn a_read_has_the_next_organization_and_changes_nothing_else() {
        let mut requests = Requests::new(Call::Page, "secret", targets(), 0, 1);
        for organization in [0xA, 0xB, 0xB, 0xA] {
            let path = format!("/v1/organizations/{}/consumptions?limit=10", Uuid::from_u128(organization));
            let head = "Host: 127.0.0.1\r\nAuthorization: Bearer secret";
            assert_eq!(text(&mut requests), format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n"));
        }
    }

    #[test]
    fn a_batch_is_json_with_all_its_items_and_of_the_length_that_it_says() {
        let mut requests = Requests::new(Call::Batch, "secret", targets(), 0, 1);
        let text = text(&mut requests);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
        let body: Value = body.parse().unwrap();
        let items = body["items"].as_array().unwrap();
        assert_eq!(items.len(), BATCH_ITEMS);
        assert_eq!(items[1]["organization_id"], Uuid::from_u128(0xB).to_string());
        assert_eq!(items[3]["organization_id"], Uuid::from_u128(0xA).to_string());
        let keys: std::collections::HashSet<_> = items.iter().map(|item| item["idempotency_key"].as_str()).collect();
        assert_eq!(keys.len(), BATCH_ITEMS);
    }

    #[test]
    fn a_batch_counts_only_if_every_item_was_charged() {
        let requests = Requests::new(Call::Batch, "secret", targets(), 0, 1);
        let item = r#"{"index":0,"status":201},"#;
        assert!(requests.is_answered(*b"200", item.repeat(BATCH_ITEMS).as_bytes()));
        assert!(!requests.is_answered(*b"200", item.repeat(BATCH_ITEMS - 1).as_bytes()));
        assert!(!requests.is_answered(*b"503", item.repeat(BATCH_ITEMS).as_bytes()));
    }
}
