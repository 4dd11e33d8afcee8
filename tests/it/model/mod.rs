//! The model test: random sequences, done to the real ledger and to the naive one, and both must always agree.
//!
//! A sequence is everything that can happen to one organization, in any order: grants, spending, holds, refunds, plans,
//! voids, corrections, requests sent twice, clocks that jump and are set back. After every step verdict, balance, lots,
//! holds and statement are compared with those of [`tests::oracle`], which knows no settlement.
//!
//! A sequence is a proptest `Vec` of steps rather than a state machine of the crate `proptest-state-machine`. That one
//! draws each step from a copy of the model as it is then, which needs the oracle (with ids that only the real ledger
//! can tell) before the test runs, and it has no place for a database that the sequences share. Here a step holds
//! random places instead, which are looked up when its turn comes ([`step`]): any part of a sequence is a sequence, and
//! shrinking needs no preconditions.
//!
//! `MULTICREDIT_MODEL_SEQUENCES` says how many sequences there are on each engine (`make model` runs 10,000). Seeds of
//! sequences that failed once are kept in `tests/it/model.seeds` and run first, on both engines. To replay a failure of
//! another machine, add the line `cc ...` that it printed to that file.

mod asking;
mod compare;
mod requests;
mod sequence;
mod step;

use std::cell::{Cell, RefCell};
use std::env;

use multicredit_domain::{ActionType, PlanCode, PlanPeriod, Quantity};
use multicredit_store::clock::Clock;
use multicredit_store::{NewPlan, NewPrice, PageRequest, Store, StoreConfig, VerifyReport};
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};
use tests::fixtures::of_values;
use tests::oracle::{OraclePlan, OraclePrice};
use tests::rpc::Rpc;
use tests::{Engine, TestDb, both_engines};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use sequence::BEGINNING;
use step::Sent;

/// The variable that says how many sequences there are on each engine.
const SEQUENCES_VARIABLE: &str = "MULTICREDIT_MODEL_SEQUENCES";

/// How many there are otherwise: what takes some seconds.
const SEQUENCES: u32 = 200;

/// How many sequences share a database: making one costs as much as a few, and `verify` reads all that is in it.
const SEQUENCES_PER_DATABASE: u32 = 200;

/// Where seeds of failures are kept.
const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/it/model.seeds");

/// An action with several credits of two types for several of its quantity.
const BUNDLE: &str = "bundle";

/// What that costs.
const BUNDLE_PRICE: OraclePrice = OraclePrice { costs: [2, 3, 0, 0], unit: 7 };

/// What the sequences of a database share.
struct World {
    store: Store,
    /// By which some of the spending goes, where that is tested.
    rpc: Option<Rpc>,
    clock: Clock,
    plans: Vec<OraclePlan>,
}

impl World {
    async fn new(db: &TestDb, rpc: Option<Rpc>) -> Self {
        let clock = Clock::manual(BEGINNING);
        // The naive ledger takes requests that are sent together in their order, which several writers do not keep.
        let config = StoreConfig { clock: clock.clone(), writers: 1, ..StoreConfig::new(db.url()) };
        let store = Store::open(config).await.expect("the database opens");
        let plan = |code, allowance, rollover_max, priority| OraclePlan { code, allowance, rollover_max, priority };
        let plans = vec![
            plan("plain", [40, 20, 0, 0], [0; 4], 10),
            plan("rolling", [30, 10, 5, 0], [25, 40, 0, 0], 9),
            plan("little", [3, 0, 0, 1], [100; 4], 11),
        ];
        let price = NewPrice {
            costs: of_values(BUNDLE_PRICE.costs),
            unit_size: Quantity::new(BUNDLE_PRICE.unit).unwrap(),
            description: None,
            active: true,
            effective_at: None,
        };
        store.put_action(ActionType::new(BUNDLE).unwrap(), price).await.unwrap();
        for OraclePlan { code, allowance, rollover_max, priority } in &plans {
            let new = NewPlan {
                allowance: of_values(*allowance),
                period: PlanPeriod::Day,
                rollover_max: (*rollover_max != [0; 4]).then(|| of_values(*rollover_max)),
                priority: *priority,
            };
            store.put_plan(PlanCode::new(*code).unwrap(), new).await.unwrap();
        }
        Self { store, rpc, clock, plans }
    }
}

/// Runs sequences on one database until one fails. Then it has been made as short as it gets.
async fn run_on(db: &TestDb, rpc: Option<Rpc>, count: u32) {
    let world = World::new(db, rpc).await;
    let mut runner = TestRunner::new(Config {
        cases: count,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(SEEDS))),
        // A step is some milliseconds.
        max_shrink_iters: 4_000,
        ..Config::default()
    });
    let number = Cell::new(0);
    let done = RefCell::new(Vec::<Vec<Sent>>::new());
    let outcome = runner.run(&step::sequence(), |steps| {
        let this = number.replace(number.get() + 1);
        let answer = block_in_place(|| Handle::current().block_on(sequence::run(&world, this, &steps)));
        done.borrow_mut().push(steps);
        answer.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let report = world.store.verify().await.unwrap();
    let done = done.into_inner();
    assert!(report.passed(), "{}", describe(&report, &world, &done).await);
    world.store.close().await;
}

/// What `verify` found, with the steps of the sequences that it names.
async fn describe(report: &VerifyReport, world: &World, done: &[Vec<Sent>]) -> String {
    use std::fmt::Write as _;

    let failed: Vec<_> = report.checks.iter().filter(|check| check.violations > 0 && !check.is_warning).collect();
    let found = format!("{failed:#?}");
    let mut text = found.clone();
    let mut page = PageRequest::first(100);
    loop {
        let organizations = world.store.organizations(None, page).await.unwrap();
        for organization in organizations.items.iter().filter(|one| found.contains(&one.id.to_string())) {
            let steps = organization.name.rsplit(' ').next().and_then(|n| done.get(n.parse::<usize>().ok()?));
            writeln!(text, "{}, {}: {steps:#?}", organization.id, organization.name).unwrap();
        }
        let Some(next) = organizations.next else { return text };
        page = PageRequest { after: Some(next), limit: 100 };
    }
}

/// Runs as many sequences as are asked for, on a database after the other.
async fn run_all(db: TestDb, with_rpc: bool) {
    let sequences = env::var(SEQUENCES_VARIABLE).map_or(SEQUENCES, |text| text.parse().expect("a number of sequences"));
    let (engine, mut db, mut left) = (db.engine(), Some(db), sequences);
    while left > 0 {
        let count = left.min(SEQUENCES_PER_DATABASE);
        let db = match db.take() {
            Some(db) => db,
            None => TestDb::new(engine).await.unwrap(),
        };
        let rpc = if with_rpc { Some(Rpc::connect(&db).await.unwrap()) } else { None };
        run_on(&db, rpc, count).await;
        left -= count;
        if sequences > SEQUENCES {
            println!("{engine:?}: {} of {sequences} sequences agreed", sequences - left);
        }
    }
}

both_engines!(the_ledger_does_what_a_naive_one_does, async |db| run_all(db, false).await);

#[test]
fn the_ledger_and_the_sql_function_together_do_what_a_naive_ledger_does() {
    tests::run(Engine::Postgres, async |db| run_all(db, true).await);
}
