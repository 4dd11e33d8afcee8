//! Three organizations to which the same is done, step by step: one spends by the ledger, one by the function, and one
//! by either in turn. After every step their answers and all their rows are the same, but for ids.
//!
//! Everything but spending goes to all three by the ledger, so that each also lives on what the function has left behind:
//! refunds give back to its draws, holds are captured from lots that it settled.
//!
//! `MULTICREDIT_MODEL_SEQUENCES` says how many histories there are, as for the model.

use std::cell::Cell;
use std::env;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use multicredit_domain::{
    Consumption, ConsumptionId, Delta, GrantId, GrantSource, HoldId, NewGrant, NewHold, NewRefund, OnExpired,
    OrganizationId, OrganizationStatus, PlanCode, PlanPeriod, Quantity, Refusal, TimeZone,
};
use multicredit_store::clock::Clock;
use multicredit_store::{Answer, NewOrganization, NewPlan, OrganizationUpdate, Store, StoreConfig, StoreError};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use tests::fixtures::{of_values, request};
use tests::rpc::Rpc;
use tests::{Engine, TestDb};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// The variable that says how many histories there are.
const SEQUENCES_VARIABLE: &str = "MULTICREDIT_MODEL_SEQUENCES";

/// How many there are otherwise.
const HISTORIES: u32 = 100;

/// Zones that a history may be in, with days of every length.
const ZONES: [&str; 5] = ["UTC", "Europe/Berlin", "America/Santiago", "Australia/Lord_Howe", "CET"];

/// Plans, by the letter that their code ends in, and what they give.
const PERIODS: [PlanPeriod; 4] = PlanPeriod::ALL;

const ACTIONS: [&str; 4] = ["ai_chat", "ai_tokens", "whatsapp_ai_reply", "nothing"];

#[derive(Debug, Clone)]
enum Step {
    Consume {
        action: usize,
        quantity: i64,
    },
    /// Hours from the clock's last full hour.
    Grant {
        credits: [i64; 4],
        priority: i32,
        is_promotion: bool,
        starts: Option<i64>,
        lasts: Option<i64>,
    },
    Void(Index),
    Adjust([i64; 4]),
    Hold {
        quantity: i64,
        hours: i64,
    },
    Capture {
        hold: Index,
        quantity: Option<i64>,
    },
    Release(Index),
    Refund {
        consumption: Index,
        quantity: Option<i64>,
        new_lot: bool,
    },
    /// To the plan of a period; the anchor in hours from the last full one.
    Subscribe {
        period: usize,
        anchor: Option<i64>,
    },
    Unsubscribe,
    /// A new version of a plan.
    Plan {
        period: usize,
        allowance: [i64; 4],
        rollover: Option<[i64; 4]>,
    },
    Status(OrganizationStatus),
    /// Time passes: microseconds, or to a full hour so many hours on.
    Micros(i64),
    Hours(i64),
}

/// A random history: where, from when on, and what.
#[derive(Debug, Clone)]
struct History {
    zone: usize,
    /// Hours after the beginning of 2026.
    begins: i64,
    steps: Vec<Step>,
}

fn history() -> impl Strategy<Value = History> {
    // Days on which clocks change, ends of months, and any.
    let begins = prop_oneof![
        Just(30 * 24),
        Just(58 * 24),
        Just(86 * 24),
        Just(93 * 24),
        Just(247 * 24),
        Just(297 * 24),
        0_i64..9_000
    ];
    let begins = (begins, 0_i64..48).prop_map(|(day, hour)| day + hour);
    (0..ZONES.len(), begins, prop::collection::vec(step(), 5..30)).prop_map(|(zone, begins, steps)| History {
        zone,
        begins,
        steps,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let spending = || (0..ACTIONS.len(), prop_oneof![9 => 1_i64..30, 1 => Just(Quantity::MAX.get())]);
    let vector = |most: i64| prop::array::uniform4(prop_oneof![1 => Just(0_i64), 2 => 0..=most]);
    let quantity = || prop::option::of(1_i64..20);
    let few_hours = || prop_oneof![2 => 1_i64..4, 1 => 1_i64..72];
    let status = prop_oneof![
        6 => Just(OrganizationStatus::Active),
        4 => Just(OrganizationStatus::Frozen),
        1 => Just(OrganizationStatus::Closed),
    ];
    prop_oneof![
        24 => spending().prop_map(|(action, quantity)| Step::Consume { action, quantity }),
        8 => (vector(60), 9..=11, any::<bool>(), prop::option::weighted(0.4, few_hours()), prop::option::weighted(0.7, few_hours()))
            .prop_filter("nothing is granted", |(credits, ..)| *credits != [0; 4])
            .prop_map(|(credits, priority, is_promotion, starts, lasts)| {
                Step::Grant { credits, priority, is_promotion, starts, lasts }
            }),
        1 => any::<Index>().prop_map(Step::Void),
        1 => prop::array::uniform4(-5_i64..=5).prop_map(Step::Adjust),
        6 => (1_i64..20, 1_i64..6).prop_map(|(quantity, hours)| Step::Hold { quantity, hours }),
        2 => (any::<Index>(), quantity()).prop_map(|(hold, quantity)| Step::Capture { hold, quantity }),
        1 => any::<Index>().prop_map(Step::Release),
        4 => (any::<Index>(), quantity(), any::<bool>())
            .prop_map(|(consumption, quantity, new_lot)| Step::Refund { consumption, quantity, new_lot }),
        4 => (0..PERIODS.len(), prop::option::of(-2_000_i64..60))
            .prop_map(|(period, anchor)| Step::Subscribe { period, anchor }),
        1 => Just(Step::Unsubscribe),
        1 => (0..PERIODS.len(), vector(40), prop::option::of(vector(40)))
            .prop_map(|(period, allowance, rollover)| Step::Plan { period, allowance, rollover }),
        1 => status.prop_map(Step::Status),
        1 => (1_i64..3_000_000).prop_map(Step::Micros),
        8 => prop_oneof![4 => 1_i64..4, 3 => 1_i64..30, 2 => 24_i64..24 * 40, 1 => 24_i64..24 * 900].prop_map(Step::Hours),
    ]
}

/// By what an organization spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Ledger,
    Function,
    InTurn,
}

/// An organization, and the ids of what was done to it, which the three have in the same order.
struct Twin {
    way: Way,
    id: OrganizationId,
    calls: usize,
    grants: Vec<GrantId>,
    holds: Vec<HoldId>,
    consumptions: Vec<ConsumptionId>,
}

struct World {
    store: Store,
    rpc: Rpc,
    clock: Clock,
    now: Cell<DateTime<Utc>>,
    histories: Cell<usize>,
}

/// The clock's full hour that is so many hours after the last one.
fn on_the_hour(now: DateTime<Utc>, hours: i64) -> DateTime<Utc> {
    let last = now.timestamp().div_euclid(3_600);
    DateTime::from_timestamp((last + hours) * 3_600, 0).expect("an instant of this millennium")
}

/// A refusal as it is compared; anything else that fails is a failure of the test.
fn refused(error: &StoreError) -> anyhow::Result<Value> {
    let StoreError::Refused(refusal) = error else { anyhow::bail!("the store failed: {error}") };
    let mut answer = json!({ "success": false, "error": refusal.code() });
    if let Refusal::InsufficientCredits(terms) = refusal {
        for (name, value) in serde_json::to_value(terms)?.as_object().context("an object")? {
            answer[name] = value.clone();
        }
    }
    Ok(answer)
}

fn pick<T: Copy>(ids: &[T], index: Index) -> Option<T> {
    (!ids.is_empty()).then(|| *index.get(ids))
}

fn quantity(value: i64) -> Quantity {
    Quantity::new(value).expect("the quantity is in range")
}

impl World {
    fn set_clock(&self, at: DateTime<Utc>) {
        self.now.set(at);
        self.clock.set(at);
    }

    async fn put_plan(&self, period: usize, allowance: [i64; 4], rollover: Option<[i64; 4]>) -> anyhow::Result<()> {
        let period = PERIODS[period];
        let new =
            NewPlan { allowance: of_values(allowance), period, rollover_max: rollover.map(of_values), priority: 10 };
        self.store.put_plan(PlanCode::new(period.as_str())?, new).await?;
        Ok(())
    }

    /// Spends, and answers as the function does, but for the id.
    async fn consume(&self, twin: &mut Twin, action: &str, quantity: i64) -> anyhow::Result<Value> {
        twin.calls += 1;
        if twin.way == Way::Function || (twin.way == Way::InTurn && twin.calls.is_multiple_of(2)) {
            let mut answer = self.rpc.consume_at(twin.id, action, quantity, self.now.get()).await?;
            if let Some(id) = answer.as_object_mut().and_then(|answer| answer.remove("consumption_id")) {
                twin.consumptions.push(ConsumptionId::new(serde_json::from_value(id)?));
            }
            return Ok(answer);
        }
        match self.store.consume(twin.id, request(action, quantity), None).await {
            Ok(Answer { value, .. }) => shown(twin, &value),
            Err(error) => refused(&error),
        }
    }

    /// Does a step to one of the three, and answers what can be compared.
    async fn apply(&self, twin: &mut Twin, step: &Step) -> anyhow::Result<Value> {
        let (store, id, now) = (&self.store, twin.id, self.now.get());
        let outcome = match *step {
            Step::Consume { action, quantity } => return self.consume(twin, ACTIONS[action], quantity).await,
            Step::Grant { credits, priority, is_promotion, starts, lasts } => {
                let effective_at = starts.map(|hours| on_the_hour(now, hours));
                let new = NewGrant {
                    credits: of_values(credits),
                    source: if is_promotion { GrantSource::Promotion } else { GrantSource::Purchase },
                    priority,
                    effective_at,
                    expires_at: lasts.map(|hours| on_the_hour(effective_at.unwrap_or(now), hours)),
                    reference: Some(format!("order {}", twin.grants.len())),
                    top_up_id: None,
                };
                store.grant(id, new, None).await.map(|answer| twin.grants.push(answer.value.lot.id))
            }
            Step::Void(lot) => match pick(&twin.grants, lot) {
                Some(lot) => store.void_grant(id, lot, None).await.map(drop),
                None => Ok(()),
            },
            Step::Adjust(change) => store.adjust(id, Delta::from_array(change), "why".to_owned(), None).await.map(drop),
            Step::Hold { quantity: units, hours } => {
                let consume = request("whatsapp_ai_reply", units);
                let ttl_seconds = (on_the_hour(now, hours) - now).num_seconds().max(1);
                let new = NewHold { action: consume.action, quantity: consume.quantity, ttl_seconds, actor: None };
                store.place_hold(id, new, None).await.map(|answer| twin.holds.push(answer.value.hold.id))
            }
            Step::Capture { hold, quantity: part } => match pick(&twin.holds, hold) {
                Some(hold) => match store.capture_hold(id, hold, part.map(quantity), None).await {
                    Ok(Answer { value, .. }) => return shown(twin, &value),
                    Err(error) => Err(error),
                },
                None => Ok(()),
            },
            Step::Release(hold) => match pick(&twin.holds, hold) {
                Some(hold) => store.release_hold(id, hold, None).await.map(drop),
                None => Ok(()),
            },
            Step::Refund { consumption, quantity: part, new_lot } => match pick(&twin.consumptions, consumption) {
                Some(consumption_id) => {
                    let on_expired = if new_lot { OnExpired::Grant } else { OnExpired::Refuse };
                    let quantity = part.map(quantity);
                    let new = NewRefund { consumption_id, quantity, reason: "why".to_owned(), on_expired };
                    store.refund(id, new, None).await.map(drop)
                }
                None => Ok(()),
            },
            Step::Subscribe { period, anchor } => {
                let code = PlanCode::new(PERIODS[period].as_str())?;
                let anchor = anchor.map(|hours| on_the_hour(now, hours));
                store.subscribe(id, &code, anchor).await.map(drop)
            }
            Step::Unsubscribe => store.unsubscribe(id).await,
            Step::Status(status) => {
                let update = OrganizationUpdate { status: Some(status), ..OrganizationUpdate::default() };
                store.update_organization(id, update).await.map(drop)
            }
            Step::Plan { .. } | Step::Micros(_) | Step::Hours(_) => Ok(()),
        };
        outcome.map_or_else(|error| refused(&error), |()| Ok(Value::Null))
    }

    /// Every row of an organization, with names that all three share in the place of ids.
    async fn rows(&self, id: OrganizationId) -> anyhow::Result<String> {
        const SQL: &str = "
            WITH lot AS (
                SELECT g.id, concat_ws(' ', g.source, g.reference, g.created_at, g.effective_at, g.expires_at) AS name,
                    'lot ' || (to_jsonb(g) - ARRAY['organization_id', 'id'])::text AS line
                FROM credit_grants g WHERE g.organization_id = $1
            ), thing AS (
                SELECT id, name FROM lot
                UNION ALL SELECT id, 'hold ' || sequence FROM credit_holds WHERE organization_id = $1
                UNION ALL SELECT id, 'log ' || sequence FROM credit_consumption_logs WHERE organization_id = $1
            )
            SELECT string_agg(line, E'\\n' ORDER BY line COLLATE \"C\") FROM (
                SELECT 'account ' || (to_jsonb(c) - 'organization_id')::text AS line
                FROM organization_credits c WHERE c.organization_id = $1
                UNION ALL SELECT line FROM lot
                UNION ALL SELECT 'draw ' || lot.name || (to_jsonb(w) - ARRAY['organization_id', 'grant_id'])::text
                FROM credit_draws w LEFT JOIN lot ON lot.id = w.grant_id WHERE w.organization_id = $1
                UNION ALL SELECT concat('hold ', of.name, to_jsonb(h) - ARRAY['organization_id', 'id', 'consumption_id'])
                FROM credit_holds h LEFT JOIN thing of ON of.id = h.consumption_id WHERE h.organization_id = $1
                UNION ALL SELECT concat('movement ', of.name, m.reference IS NULL,
                    to_jsonb(m) - ARRAY['organization_id', 'reference'])
                FROM credit_movements m LEFT JOIN thing of ON of.id = m.reference WHERE m.organization_id = $1
                UNION ALL SELECT concat('log ', of.name, to_jsonb(l) - ARRAY['organization_id', 'id', 'hold_id'])
                FROM credit_consumption_logs l LEFT JOIN thing of ON of.id = l.hold_id WHERE l.organization_id = $1
                UNION ALL SELECT concat('refund ', of.name, lot.name,
                    to_jsonb(r) - ARRAY['organization_id', 'id', 'consumption_id', 'grant_id'])
                FROM credit_refunds r LEFT JOIN thing of ON of.id = r.consumption_id LEFT JOIN lot ON lot.id = r.grant_id
                WHERE r.organization_id = $1
                UNION ALL SELECT concat('subscription ', lot.name, to_jsonb(s) - ARRAY['organization_id', 'grant_id'])
                FROM subscriptions s LEFT JOIN lot ON lot.id = s.grant_id WHERE s.organization_id = $1
            ) AS lines";
        self.rpc.answer(SQL, [id.uuid().into()]).await
    }

    async fn twins(&self, zone: &str) -> anyhow::Result<Vec<Twin>> {
        let number = self.histories.replace(self.histories.get() + 1);
        let mut twins = Vec::new();
        for way in [Way::Ledger, Way::Function, Way::InTurn] {
            let new = NewOrganization {
                name: format!("history {number}, {way:?}"),
                external_id: None,
                time_zone: TimeZone::new(zone)?,
            };
            let id = self.store.create_organization(new).await?.id;
            let (grants, holds, consumptions) = (Vec::new(), Vec::new(), Vec::new());
            twins.push(Twin { way, id, calls: 0, grants, holds, consumptions });
        }
        Ok(twins)
    }

    async fn run(&self, history: &History) -> anyhow::Result<()> {
        self.set_clock(DateTime::from_timestamp(1_767_225_600 + 3_600 * history.begins, 0).context("an instant")?);
        for (period, allowance) in
            [[9, 4, 0, 0], [30, 10, 0, 1], [60, 0, 3, 0], [200, 100, 0, 0]].into_iter().enumerate()
        {
            self.put_plan(period, allowance, (period % 2 == 0).then_some([20, 2, 0, 0])).await?;
        }
        let mut twins = self.twins(ZONES[history.zone]).await?;
        let funds =
            Step::Grant { credits: [60, 30, 5, 5], priority: 10, is_promotion: false, starts: None, lasts: None };
        for (place, step) in std::iter::once(&funds).chain(&history.steps).enumerate() {
            match *step {
                Step::Plan { period, allowance, rollover } => self.put_plan(period, allowance, rollover).await?,
                Step::Micros(micros) => self.set_clock(self.now.get() + TimeDelta::microseconds(micros)),
                Step::Hours(hours) => self.set_clock(on_the_hour(self.now.get(), hours)),
                _ => self.compare(&mut twins, step).await.with_context(|| format!("at step {place}, {step:?}"))?,
            }
        }
        Ok(())
    }

    /// Does a step to all three, and holds their answers and rows against each other.
    async fn compare(&self, twins: &mut [Twin], step: &Step) -> anyhow::Result<()> {
        let mut first = None;
        for twin in twins {
            let answer = self.apply(twin, step).await.with_context(|| format!("{:?}", twin.way))?;
            let rows = self.rows(twin.id).await?;
            let (expected_answer, expected_rows) = first.get_or_insert_with(|| (answer.clone(), rows.clone()));
            let way = twin.way;
            ensure!(*expected_answer == answer, "{way:?} answered\n{answer}\nand not\n{expected_answer}");
            if *expected_rows != rows {
                let lacks = |these: &str, those: &str| {
                    let lines = these.lines().filter(|line| !those.lines().any(|other| other == *line));
                    lines.collect::<Vec<_>>().join("\n")
                };
                let (missing, extra) = (lacks(expected_rows, &rows), lacks(&rows, expected_rows));
                anyhow::bail!("{way:?} has not\n{missing}\nbut\n{extra}");
            }
        }
        Ok(())
    }
}

/// A consumption as it is compared; its id is kept.
fn shown(twin: &mut Twin, consumption: &Consumption) -> anyhow::Result<Value> {
    let multicredit_domain::consume::Outcome::Spent { sequence, available } = consumption.outcome else {
        anyhow::bail!("a success was answered {consumption:?}");
    };
    twin.consumptions.push(consumption.id);
    Ok(json!({
        "success": true,
        "consumed": consumption.consumed,
        "available": available,
        "sequence": sequence,
        "created_at": consumption.created_at,
    }))
}

/// A world on a database of its own.
async fn world(db: &TestDb) -> World {
    let now = DateTime::UNIX_EPOCH;
    let clock = Clock::manual(now);
    let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
    let store = Store::open(config).await.unwrap();
    let rpc = Rpc::connect(db).await.unwrap();
    World { store, rpc, clock, now: Cell::new(now), histories: Cell::new(0) }
}

#[test]
fn the_function_answers_and_writes_what_the_ledger_does() {
    tests::run(Engine::Postgres, async |db: TestDb| {
        let world = world(&db).await;
        let cases = env::var(SEQUENCES_VARIABLE).map_or(HISTORIES, |text| text.parse().expect("a number of histories"));
        let config = Config { cases, failure_persistence: None, max_shrink_iters: 1_000, ..Config::default() };
        let outcome = TestRunner::new(config).run(&history(), |history| {
            let answer = block_in_place(|| Handle::current().block_on(world.run(&history)));
            answer.map_err(|error| TestCaseError::fail(format!("{error:#}")))
        });
        if let Err(failure) = outcome {
            panic!("{failure}");
        }
        let report = world.store.verify().await.unwrap();
        assert!(report.passed(), "{report:#?}");
    });
}

/// An allowance and what rolls over are more than an amount can be, of one type; the others roll over all the same.
#[test]
fn each_type_rolls_over_by_itself_at_the_end_of_its_range() {
    tests::run(Engine::Postgres, async |db: TestDb| {
        let world = world(&db).await;
        world.set_clock(DateTime::from_timestamp(1_767_225_600, 0).unwrap());
        let most = Quantity::MAX.get() - 60;
        world.put_plan(0, [most, 4, 0, 0], Some([100, 3, 0, 0])).await.unwrap();
        let mut twins = world.twins("UTC").await.unwrap();
        let credits = [60, 30, 5, 5];
        let funds = Step::Grant { credits, priority: 10, is_promotion: false, starts: None, lasts: None };
        for step in [funds, Step::Subscribe { period: 0, anchor: None }] {
            world.compare(&mut twins, &step).await.unwrap();
        }
        world.set_clock(world.now.get() + TimeDelta::hours(25));
        world.compare(&mut twins, &Step::Consume { action: 0, quantity: 1 }).await.unwrap();
        for twin in twins {
            let available = world.store.balance(twin.id).await.unwrap().balance.available.to_array();
            assert_eq!(available.map(i64::from)[1..], [30 + 4 + 3, 5, 5], "{:?}", twin.way);
        }
    });
}
