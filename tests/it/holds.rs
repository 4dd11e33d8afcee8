//! Holds, and what else happens by itself, under contention: nothing twice, nothing by halves, whoever is first.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::{join, join_all, join3};
use multicredit_domain::{
    Consume, CreditType, Credits, HoldState, Movement, MovementKind, NewHold, OrganizationId, PlanCode, PlanPeriod,
    Refusal, Subscription, TimeZone,
};
use multicredit_store::clock::Clock;
use multicredit_store::{NewOrganization, NewPlan, PageRequest, Store, StoreConfig, StoreError, Swept};
use tests::fixtures::{ai, credits, organization, request, store};
use tests::{TestDb, both_engines};

/// How often everybody races for the same credits.
const SCRAMBLES: usize = 200;

/// How often a capture races with the end of its hold.
const PHOTO_FINISHES: usize = 1_000;

async fn assert_verified(store: &Store) {
    let report = store.verify().await.expect("the database answers");
    let failed: Vec<_> = report.checks.iter().filter(|check| check.violations > 0 && !check.is_warning).collect();
    assert!(report.passed(), "{failed:#?}");
}

/// A store that goes by the same clock as others, as a further process would.
async fn replica(db: &TestDb, clock: &Clock) -> Store {
    let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
    Store::open(config).await.expect("the database opens")
}

fn hold(action: &str, quantity: i64, ttl_seconds: i64) -> NewHold {
    let Consume { action, quantity, actor, .. } = request(action, quantity);
    NewHold { action, quantity, ttl_seconds, actor }
}

fn at(text: &str) -> DateTime<Utc> {
    DateTime::parse_from_rfc3339(text).expect("it is an instant").to_utc()
}

/// How many of the answers are successes; every other one must be a refusal for want of credits.
fn successes<T: std::fmt::Debug>(answers: &[Result<T, StoreError>]) -> usize {
    let is_success = |answer: &Result<T, StoreError>| match answer {
        Ok(_) => true,
        Err(StoreError::Refused(Refusal::InsufficientCredits(_))) => false,
        Err(error) => panic!("{error}"),
    };
    answers.iter().filter(|answer| is_success(answer)).count()
}

async fn available_and_held(store: &Store, id: OrganizationId) -> (Credits, Credits) {
    let balance = store.balance(id).await.expect("the organization exists").balance;
    (balance.available, balance.held)
}

async fn movements(store: &Store, id: OrganizationId, kind: MovementKind) -> Vec<Movement> {
    let mut found = Vec::new();
    let mut page = PageRequest::first(100);
    loop {
        let answer = store.ledger(id, page).await.expect("the organization exists");
        found.extend(answer.items.into_iter().filter(|movement| movement.kind == kind));
        let Some(next) = answer.next else { return found };
        page = PageRequest { after: Some(next), limit: 100 };
    }
}

both_engines!(of_twenty_at_once_for_75_of_500_credits_six_are_served, async |db| {
    let store = &store(&db).await;
    // Enough of the first type for all; of the second for six.
    let both = |second| credits([(CreditType::Ai, 20 * 75), (CreditType::Whatsapp, second)]);
    for round in 0..SCRAMBLES {
        let holding = organization(store, &format!("holding {round}"), ai(500)).await;
        let spending = organization(store, &format!("spending {round}"), ai(500)).await;
        let holding_both = organization(store, &format!("holding both {round}"), both(500)).await;
        let spending_both = organization(store, &format!("spending both {round}"), both(500)).await;
        let place = |id, action: &'static str| {
            join_all((0..20).map(move |_| store.place_hold(id, hold(action, 75, 300), None)))
        };
        let spend =
            |id, action: &'static str| join_all((0..20).map(move |_| store.consume(id, request(action, 75), None)));
        let ((held, spent), (held_both, spent_both)) = join(
            join(place(holding, "ai_chat"), spend(spending, "ai_chat")),
            join(place(holding_both, "whatsapp_ai_reply"), spend(spending_both, "whatsapp_ai_reply")),
        )
        .await;
        let served = [successes(&held), successes(&spent), successes(&held_both), successes(&spent_both)];
        assert_eq!(served, [6; 4], "round {round}");
        assert_eq!(available_and_held(store, holding).await, (ai(50), ai(450)));
        assert_eq!(available_and_held(store, spending).await, (ai(50), ai(0)));
        let taken = credits([(CreditType::Ai, 450), (CreditType::Whatsapp, 450)]);
        let left = both(500).checked_sub(taken).unwrap();
        assert_eq!(available_and_held(store, holding_both).await, (left, taken));
        assert_eq!(available_and_held(store, spending_both).await, (left, Credits::ZERO));
    }
    assert_verified(store).await;
});

both_engines!(a_hold_is_captured_or_expires_and_never_both, async |db| {
    let mut now = at("2026-03-01T00:00:00Z");
    let clock = Clock::manual(now);
    let (sweeper, store) = (replica(&db, &clock).await, replica(&db, &clock).await);
    let bought = 10 * i64::try_from(PHOTO_FINISHES).unwrap();
    let id = organization(&store, "late", ai(bought)).await;
    let (mut captured, mut expired) = (0, 0);
    for round in 0..PHOTO_FINISHES {
        clock.set(now);
        let placed = store.place_hold(id, hold("ai_image", 2, 1), None).await.unwrap().value.hold;
        clock.set(placed.expires_at - TimeDelta::microseconds(1));
        // Time is up while the capture is on its way, sooner or later, since machines are fast and slow. Who is first is
        // left to chance, and the order of asking changes.
        let delay = Duration::from_micros(150 * u64::try_from(round % 8).unwrap().pow(2));
        let time_is_up = async || {
            tokio::time::sleep(delay).await;
            clock.set(placed.expires_at);
        };
        let capture = store.capture_hold(id, placed.id, None, None);
        let answer = match round % 3 {
            0 => join3(capture, time_is_up(), sweeper.sweep()).await.0,
            1 => join3(sweeper.sweep(), capture, time_is_up()).await.1,
            _ => join3(time_is_up(), sweeper.sweep(), capture).await.2,
        };
        let state = store.hold(id, placed.id).await.unwrap().state;
        match answer {
            Ok(_) => {
                captured += 1;
                assert_eq!(state, HoldState::Captured, "round {round}");
            }
            Err(StoreError::Refused(Refusal::HoldExpired)) => {
                expired += 1;
                assert_eq!(state, HoldState::Expired, "round {round}");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
        assert_eq!(available_and_held(&store, id).await, (ai(bought - 10 * captured), ai(0)), "round {round}");
        now = placed.expires_at;
    }
    assert!(captured > 0 && expired > 0, "{captured} were captured and {expired} expired: that was no race");
    let booked = async |kind| i64::try_from(movements(&store, id, kind).await.len()).unwrap();
    sweeper.sweep().await.unwrap();
    assert_eq!(booked(MovementKind::Capture).await, captured);
    assert_eq!(booked(MovementKind::HoldExpiry).await, expired);
    assert_verified(&store).await;
});

both_engines!(three_processes_that_come_back_after_a_week_grant_every_day_of_it_once, async |db| {
    const ORGANIZATIONS: usize = 12;
    let beginning = at("2026-03-01T09:30:00Z");
    let clock = Clock::manual(beginning);
    let [one, two, three] = [replica(&db, &clock).await, replica(&db, &clock).await, replica(&db, &clock).await];
    let subscribers = subscribers(&one, ORGANIZATIONS).await;
    for week in 1..=3 {
        // Nobody was there for a week.
        clock.set(beginning + TimeDelta::days(7 * week));
        let seen = one.balance(subscribers[0]).await.unwrap();
        let spend = async |store: &Store| {
            join_all(subscribers.iter().map(|id| store.consume(*id, request("ai_chat", 1), None))).await
        };
        let (swept, spent) =
            join(join3(one.sweep(), two.sweep(), three.sweep()), join(spend(&two), spend(&three))).await;
        for swept in [swept.0, swept.1, swept.2] {
            assert_eq!(swept.unwrap().failed, 0);
        }
        assert_eq!(successes(&spent.0) + successes(&spent.1), 2 * ORGANIZATIONS);
        for id in &subscribers {
            let granted = movements(&three, *id, MovementKind::PeriodGrant).await;
            let expected: Vec<_> = (0..=7 * week).rev().map(|day| beginning + TimeDelta::days(day)).collect();
            assert_eq!(granted.iter().map(|movement| movement.created_at).collect::<Vec<_>>(), expected);
            let lots: BTreeSet<_> = granted.iter().map(|movement| movement.reference).collect();
            assert_eq!(lots.len(), expected.len());
            assert_eq!(available_and_held(&one, *id).await, (ai(8), ai(0)));
        }
        // A reader that came before anybody had booked anything saw what was booked then.
        assert_eq!(seen.balance.available, ai(10));
        let booked = movements(&one, subscribers[0], MovementKind::PeriodGrant).await;
        assert_eq!(booked[0].sequence, seen.sequence);
    }
    assert_verified(&one).await;
});

both_engines!(everybody_who_comes_back_after_a_year_at_once_is_served, async |db| {
    // More than could be booked in one transaction within its time, whoever asks for it.
    const SPENDERS: usize = 80;
    const ORGANIZATIONS: usize = 2 * SPENDERS;
    const DAYS: i64 = 400;
    let beginning = at("2026-03-01T09:30:00Z");
    let clock = Clock::manual(beginning);
    let store = replica(&db, &clock).await;
    let subscribers = subscribers(&store, ORGANIZATIONS).await;
    clock.set(beginning + TimeDelta::days(DAYS));
    let spend = |id: &OrganizationId| store.consume(*id, request("ai_chat", 1), None);
    let (spent, swept) = join(join_all(subscribers[..SPENDERS].iter().map(spend)), store.sweep()).await;
    assert_eq!(successes(&spent), SPENDERS);
    assert_eq!(swept.unwrap().failed, 0);
    assert_eq!(store.sweep().await.unwrap(), Swept::default(), "nothing is left");
    for id in [subscribers[0], subscribers[ORGANIZATIONS - 1]] {
        let granted = movements(&store, id, MovementKind::PeriodGrant).await;
        assert_eq!(i64::try_from(granted.len()).unwrap(), DAYS + 1);
    }
    assert_verified(&store).await;
});

/// Organizations with a plan of ten credits a day.
async fn subscribers(store: &Store, count: usize) -> Vec<OrganizationId> {
    let daily = PlanCode::new("daily").unwrap();
    store.put_plan(daily.clone(), plan(PlanPeriod::Day, 10)).await.unwrap();
    let mut subscribers = Vec::with_capacity(count);
    for number in 0..count {
        let id = organization(store, &format!("daily {number}"), Credits::ZERO).await;
        store.subscribe(id, &daily, None).await.unwrap();
        subscribers.push(id);
    }
    subscribers
}

fn plan(period: PlanPeriod, allowance: i64) -> NewPlan {
    NewPlan { allowance: ai(allowance), period, rollover_max: None, priority: 10 }
}

both_engines!(periods_end_where_the_calendar_ends_them, async |db| {
    let clock = Clock::manual(at("2026-01-01T00:00:00Z"));
    let store = replica(&db, &clock).await;
    // Each first instant begins a period, and the next one ends it and begins the next.
    let calendars = [
        (
            PlanPeriod::Month,
            "UTC",
            &["2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z"][..],
        ),
        (PlanPeriod::Month, "UTC", &["2027-12-30T00:00:00Z", "2028-01-30T00:00:00Z", "2028-02-29T00:00:00Z"]),
        (PlanPeriod::Year, "UTC", &["2028-02-29T12:00:00Z", "2029-02-28T12:00:00Z", "2030-02-28T12:00:00Z"]),
        (PlanPeriod::Week, "UTC", &["2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z", "2027-01-11T00:00:00Z"]),
        // Clocks go forward on 29 March 2026 and back on 25 October.
        (PlanPeriod::Day, "Europe/Berlin", &["2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z", "2026-03-30T22:00:00Z"]),
        (PlanPeriod::Month, "Europe/Berlin", &["2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z"]),
    ];
    for (number, (period, zone, starts)) in calendars.into_iter().enumerate() {
        let code = PlanCode::new(format!("plan-{number}")).unwrap();
        store.put_plan(code.clone(), plan(period, 10)).await.unwrap();
        let starts: Vec<_> = starts.iter().map(|start| at(start)).collect();
        clock.set(starts[0]);
        let new = NewOrganization { name: zone.to_owned(), external_id: None, time_zone: TimeZone::new(zone).unwrap() };
        let id = store.create_organization(new).await.unwrap().id;
        store.subscribe(id, &code, None).await.unwrap();
        for ends in starts.windows(2) {
            let expected = Some((ends[0], ends[1]));
            for instant in [ends[0], ends[1] - TimeDelta::microseconds(1)] {
                clock.set(instant);
                let Subscription { current, .. } = store.subscription(id).await.unwrap();
                assert_eq!(current, expected, "{period:?} in {zone}, at {instant}");
                // What is left of a period's lot ends with it, and does not add up.
                assert_eq!(available_and_held(&store, id).await, (ai(10), ai(0)), "{period:?} in {zone}, at {instant}");
            }
        }
        clock.set(*starts.last().unwrap());
        store.sweep().await.unwrap();
        let booked = movements(&store, id, MovementKind::PeriodGrant).await;
        let expected: Vec<_> = starts.into_iter().rev().collect();
        assert_eq!(booked.iter().map(|movement| movement.created_at).collect::<Vec<_>>(), expected);
    }
    assert_verified(&store).await;
});

both_engines!(many_versions_of_a_plan_put_at_once_are_all_there, async |db| {
    let store = &store(&db).await;
    let code = PlanCode::new("popular").unwrap();
    let put = join_all((0..20).map(|n| store.put_plan(code.clone(), plan(PlanPeriod::Day, n)))).await;
    let versions: Result<BTreeSet<_>, _> = put.into_iter().map(|plan| plan.map(|plan| plan.terms.version)).collect();
    assert_eq!(versions.unwrap(), (1..=20).collect());
    assert_eq!(store.plan(&code).await.unwrap().terms.version, 20);
});

both_engines!(a_hold_that_was_cut_short_is_over_for_spenders_too, async |db| {
    let beginning = at("2026-03-01T00:00:00Z");
    let clock = Clock::manual(beginning);
    let store = replica(&db, &clock).await;
    let id = organization(&store, "short", ai(10)).await;
    let placed = store.place_hold(id, hold("ai_chat", 10, 86_400), None).await.unwrap().value.hold;
    let cut = store.extend_hold(id, placed.id, 60, None).await.unwrap().value.hold;
    assert_eq!(cut.expires_at, beginning + TimeDelta::seconds(60));
    clock.set(cut.expires_at);
    store.consume(id, request("ai_chat", 10), None).await.unwrap();
    let lines = store.ledger(id, PageRequest::first(2)).await.unwrap().items;
    assert_eq!(
        lines.iter().map(|line| line.kind).collect::<Vec<_>>(),
        [MovementKind::Consumption, MovementKind::HoldExpiry]
    );
    assert_verified(&store).await;
});
