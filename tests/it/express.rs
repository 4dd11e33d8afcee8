//! The express path and the portable path are one: the same requests, the same verdicts, the same rows.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use multicredit_domain::consume::Outcome;
use multicredit_domain::{Actor, Consume, Consumption, CreditType, NewGrant, OrganizationId, OrganizationStatus};
use multicredit_store::clock::Clock;
use multicredit_store::stats::DecidedBy;
use multicredit_store::{
    Answer, ConsumeItem, ConsumptionFilter, NewPrice, OrganizationUpdate, PageRequest, Store, StoreConfig, StoreError,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use sea_orm::{ConnectionTrait, Statement};
use tests::fixtures::{ai, credits, key, organization, purchase, request, store};
use tests::{Engine, TestDb, both_engines, run};

/// How many histories are compared.
const CASES: u32 = 60;

/// How many organizations take part in each.
const ORGANIZATIONS: usize = 3;

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    /// A batch of consumptions: which organization, action, quantity and key.
    Batch(Vec<(usize, &'static str, i64, Option<u8>)>),
    /// Credits, lasting so many seconds if they do not last for ever.
    Grant(usize, i64, Option<i64>),
    /// Time passes.
    Pause(i64),
    /// A new price of `ai_chat`, in force after so many seconds.
    Price(i64, i64),
    /// An organization is frozen, or active again.
    Freeze(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let action =
        prop_oneof![4 => Just("ai_chat"), 2 => Just("whatsapp_ai_reply"), 1 => Just("ai_tokens"), 1 => Just("nothing")];
    let item = (0..ORGANIZATIONS, action, 1_i64..40, prop::option::of(0_u8..6));
    prop_oneof![
        8 => prop::collection::vec(item, 1..12).prop_map(Step::Batch),
        2 => (0..ORGANIZATIONS, 1_i64..200, prop::option::of(1_i64..20)).prop_map(|(o, c, l)| Step::Grant(o, c, l)),
        2 => (0_i64..10).prop_map(Step::Pause),
        1 => (0_i64..4, 0_i64..10).prop_map(|(cost, after)| Step::Price(cost, after)),
        1 => (0..ORGANIZATIONS, any::<bool>()).prop_map(|(o, frozen)| Step::Freeze(o, frozen)),
    ]
}

/// One of the two: a store, its organizations, and what it has answered.
struct Side {
    store: Store,
    organizations: Vec<OrganizationId>,
    keys: String,
}

/// What can be compared of an answer: everything but ids.
fn shown(answer: Result<Answer<Consumption>, StoreError>) -> String {
    match answer {
        Ok(Answer { value, replayed }) => {
            format!(
                "{replayed} {:?} {:?} {:?} {}",
                value.consumed, value.outcome, value.price_version, value.created_at
            )
        }
        Err(error) => format!("{error:?}"),
    }
}

impl Side {
    async fn apply(&self, step: &Step) -> Vec<String> {
        match step {
            Step::Batch(items) => {
                let item = |(o, action, quantity, k): &(usize, &str, i64, Option<u8>)| ConsumeItem {
                    organization_id: self.organizations[*o],
                    request: request(action, *quantity),
                    key: k.and_then(|k| key(&format!("{}{k}", self.keys))),
                };
                let answers = self.store.consume_many(items.iter().map(item).collect()).await;
                answers.into_iter().map(shown).collect()
            }
            Step::Grant(o, amount, lasts) => {
                let now = self.store.now().await.unwrap();
                let both = credits([(CreditType::Ai, *amount), (CreditType::Whatsapp, *amount / 2)]);
                let expires_at = lasts.map(|seconds| now + TimeDelta::seconds(seconds));
                let new = NewGrant { expires_at, ..purchase(both) };
                self.store.grant(self.organizations[*o], new, None).await.unwrap();
                Vec::new()
            }
            Step::Freeze(o, frozen) => {
                let status = if *frozen { OrganizationStatus::Frozen } else { OrganizationStatus::Active };
                let update = OrganizationUpdate { status: Some(status), ..OrganizationUpdate::default() };
                self.store.update_organization(self.organizations[*o], update).await.unwrap();
                Vec::new()
            }
            Step::Pause(_) | Step::Price(..) => Vec::new(),
        }
    }

    /// Every row that the two should have in common, in an order of their own.
    async fn rows(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for id in &self.organizations {
            let page = PageRequest::first(100_000);
            for movement in self.store.ledger(*id, page).await.unwrap().items {
                rows.push(format!(
                    "{} {:?} {:?} {:?} {}",
                    movement.sequence, movement.kind, movement.change, movement.balance_after, movement.created_at
                ));
            }
            let all = ConsumptionFilter::default();
            let log = self.store.consumptions(*id, all, PageRequest::first(100_000)).await.unwrap().items;
            let mut attempts: Vec<_> = log
                .into_iter()
                .map(|it| format!("{:?} {:?} {:?} {}", it.request, it.outcome, it.price_version, it.created_at))
                .collect();
            // Refusals of one instant are in no order.
            attempts.sort();
            rows.extend(attempts);
            rows.push(format!("{:?}", self.store.balance(*id).await.unwrap().balance));
        }
        rows
    }
}

async fn compare(steps: Vec<Step>, sides: &[Side; 2], clock: &Clock, now: &mut DateTime<Utc>) {
    for step in steps {
        match step {
            Step::Pause(seconds) => {
                *now += TimeDelta::seconds(seconds);
                clock.set(*now);
            }
            Step::Price(cost, after) => {
                let price = NewPrice {
                    costs: credits([(CreditType::Ai, cost)]),
                    unit_size: multicredit_domain::Quantity::ONE,
                    description: None,
                    active: cost > 0,
                    effective_at: Some(*now + TimeDelta::seconds(after)),
                };
                let action = multicredit_domain::ActionType::new("ai_chat").unwrap();
                sides[0].store.put_action(action, price).await.unwrap();
            }
            step => assert_eq!(sides[0].apply(&step).await, sides[1].apply(&step).await, "{step:?}"),
        }
    }
    assert_eq!(sides[0].rows().await, sides[1].rows().await);
}

both_engines!(both_paths_decide_and_write_the_same, async |db: TestDb| {
    let mut now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let clock = Clock::manual(now);
    let open = async |express| {
        Store::open(StoreConfig { express, clock: clock.clone(), ..StoreConfig::new(db.url()) }).await.unwrap()
    };
    let (express, portable) = (open(true).await, open(false).await);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for case in 0..CASES {
        let history = prop::collection::vec(step(), 1..25).new_tree(&mut runner).unwrap().current();
        let mut sides = Vec::new();
        for (name, store) in [("express", &express), ("portable", &portable)] {
            let mut organizations = Vec::new();
            for index in 0..ORGANIZATIONS {
                let funds = credits([(CreditType::Ai, 100), (CreditType::Whatsapp, 50)]);
                organizations.push(organization(store, &format!("{name}-{case}-{index}"), funds).await);
            }
            sides.push(Side { store: store.clone(), organizations, keys: format!("{case}-") });
        }
        let Ok(sides) = <[Side; 2]>::try_from(sides) else { unreachable!("there are two") };
        println!("history {case}: {history:?}");
        compare(history, &sides, &clock, &mut now).await;
    }
    let keys = "SELECT COUNT(*) AS n, COUNT(DISTINCT k.organization_id) AS o FROM idempotency_keys k \
                JOIN organizations o ON o.id = k.organization_id WHERE o.name LIKE 'express-%'";
    let mut counts = BTreeMap::new();
    for sql in [keys.to_owned(), keys.replace("express", "portable")] {
        let look = db.connect().await.unwrap();
        let row = look.query_one_raw(Statement::from_string(look.get_database_backend(), sql)).await.unwrap().unwrap();
        *counts.entry(row.try_get::<i64>("", "n").unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 1, "both have bound the same number of keys");
    let by_express = |store: &Store| store.stats().ledger.path(DecidedBy::Express).decided.get();
    assert!(by_express(&express) > 0, "nothing took the path that is compared");
    assert_eq!(by_express(&portable), 0);
    assert!(express.verify().await.unwrap().passed());
});

/// The tables that spending writes, and which of their columns are not the same for two organizations.
const SPENT_TABLES: [(&str, &[&str]); 3] = [
    ("organization_credits", &["organization_id"]),
    ("credit_consumption_logs", &["organization_id", "id"]),
    ("idempotency_keys", &["organization_id", "reference"]),
];

/// What SQLite has of an organization, with the types of the values.
async fn stored(db: &TestDb, id: OrganizationId) -> Vec<String> {
    let look = db.connect().await.unwrap();
    let ask = async |sql: String| {
        let rows = look.query_all_raw(Statement::from_string(look.get_database_backend(), sql)).await.unwrap();
        rows.into_iter().map(|row| row.try_get_by_index::<String>(0).unwrap()).collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    for (table, own) in SPENT_TABLES {
        let columns = ask(format!("SELECT name FROM pragma_table_info('{table}')")).await;
        let values = columns.iter().map(|name| {
            let value = if own.contains(&name.as_str()) { format!("length({name})") } else { format!("quote({name})") };
            format!("'{name} ' || typeof({name}) || ' ' || {value}")
        });
        let values = values.collect::<Vec<_>>().join(" || ', ' || ");
        let id = id.uuid().simple();
        let sql = format!("SELECT {values} FROM {table} WHERE organization_id = unhex('{id}') ORDER BY 1");
        rows.extend(ask(sql).await);
    }
    rows
}

/// A column of SQLite takes whatever is written to it, and instants are compared as texts.
#[test]
fn both_paths_store_the_same_values_on_sqlite() {
    run(Engine::Sqlite, async |db: TestDb| {
        // A text has as many digits after the second as there are.
        let instants = [0, 250_000, 1_000_000, 1_000_001, 2_120_000];
        let instants = instants.map(|more| DateTime::from_timestamp_micros(1_800_000_000_000_000 + more).unwrap());
        let clock = Clock::manual(instants[0]);
        let mut sides = Vec::new();
        for express in [true, false] {
            clock.set(instants[0]);
            let config = StoreConfig { express, clock: clock.clone(), ..StoreConfig::new(db.url()) };
            let store = Store::open(config).await.unwrap();
            // The price is learnt from what the portable path decides.
            let other = organization(&store, &format!("other-{express}"), ai(100)).await;
            store.consume(other, request("ai_chat", 1), None).await.unwrap();
            let id = organization(&store, &format!("own-{express}"), ai(100)).await;
            for (nth, instant) in instants.into_iter().enumerate() {
                clock.set(instant);
                let plain = request("ai_chat", 1);
                let full = Consume {
                    occurred_at: Some(instant - TimeDelta::milliseconds(1)),
                    metadata: Some(serde_json::from_str(r#"{"b": "it's \"ü\"", "a": [1.50, null, true]}"#).unwrap()),
                    actor: Some(Actor::new("someone's").unwrap()),
                    ..request("ai_chat", 2)
                };
                store.consume(id, plain, None).await.unwrap();
                store.consume(id, full, key(&format!("key-{nth}"))).await.unwrap();
            }
            let by_express = store.stats().ledger.path(DecidedBy::Express).decided.get();
            assert_eq!(by_express, if express { 2 * instants.len() as u64 } else { 0 });
            sides.push(stored(&db, id).await);
        }
        assert_eq!(sides[0].len(), 1 + 3 * instants.len());
        assert_eq!(sides[0], sides[1]);
    });
}

both_engines!(two_writers_interleave_on_the_express_path_without_losing_anything, async |db: TestDb| {
    let stores = [store(&db).await, store(&db).await];
    let mut organizations = Vec::new();
    for index in 0..8 {
        let funds = credits([(CreditType::Ai, 500)]);
        organizations.push(organization(&stores[0], &format!("shared-{index}"), funds).await);
    }
    let spend = async |n: usize| {
        let id = organizations[n * 7 % organizations.len()];
        let k = key(&format!("key-{}", n / 2));
        stores[n % 2].consume(id, request("ai_chat", 1), k).await
    };
    // Two of a number share a key where they share the organization, and go to different writers.
    let answers = futures_util::future::join_all((0..4_000).map(spend)).await;
    let charged = answers.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| !answer.replayed)).count();
    let mut spent = 0;
    for id in &organizations {
        let balance = stores[0].balance(*id).await.unwrap();
        spent += 500 - usize::try_from(balance.balance.available[CreditType::Ai].get()).unwrap();
    }
    assert_eq!(charged, spent);
    let sequences = answers.into_iter().flatten().map(|answer| match answer.value.outcome {
        Outcome::Spent { sequence, .. } => (answer.value.organization_id, sequence, answer.value.id),
        Outcome::Refused { .. } => unreachable!("a refusal is an error"),
    });
    let distinct: std::collections::HashSet<_> = sequences.collect();
    assert_eq!(distinct.len(), charged, "every charge has a number of its own");
    assert!(stores[1].verify().await.unwrap().passed());
});

/// An update that changes no indexed column and finds room on its page costs no index entry, and vacuum nothing.
#[test]
fn spending_updates_balances_in_place() {
    run(Engine::Postgres, async |db| {
        let store = store(&db).await;
        let mut organizations = Vec::new();
        for name in ["a", "b", "c"] {
            organizations.push(organization(&store, name, ai(1_000)).await);
        }
        for nth in 0..300 {
            store.consume(organizations[nth % organizations.len()], request("ai_chat", 1), None).await.unwrap();
        }
        // A session tells of what it did when it ends.
        store.close().await;
        let look = db.connect().await.unwrap();
        let sql = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'organization_credits'";
        for _ in 0..100 {
            let row =
                look.query_one_raw(Statement::from_string(look.get_database_backend(), sql)).await.unwrap().unwrap();
            let (updates, hot): (i64, i64) = (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap());
            if updates >= 300 {
                assert!(hot * 100 >= updates * 95, "only {hot} of {updates} updates were HOT");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("PostgreSQL counts no updates");
    });
}
