//! The calendar and the ids of periods, said a second time in SQL, against those of the domain.

use chrono::{DateTime, Duration, Utc};
use multicredit_domain::{GrantSource, PlanCode, PlanPeriod, Quantity, TimeZone};
use multicredit_store::clock::Clock;
use multicredit_store::{NewOrganization, NewPlan, PageRequest, Store, StoreConfig};
use tests::fixtures::{of_values, purchase};
use tests::rpc::Rpc;
use tests::{Engine, TestDb};

/// Zones with every kind of change: an hour in spring and in autumn, on either half of the earth and at midnight, half
/// an hour, a whole day left out, minus an hour in winter, offsets of quarters, for good; and the names that PostgreSQL
/// takes for abbreviations. None of them is one whose rules were changed lately: the machine's release of the IANA
/// database may be older than the program's.
const ZONES: [&str; 15] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Europe/Dublin",
    "Asia/Kathmandu",
    "Europe/Istanbul",
    "CET",
    "MET",
    "EET",
    "WET",
];

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// What the function says of the periods 0 to `most` from anchors of every half hour of a day, in microseconds.
async fn starts(rpc: &Rpc, day: DateTime<Utc>, zone: &TimeZone, period: PlanPeriod, most: i64) -> Vec<Option<i64>> {
    let sql = "SELECT json_agg((extract(epoch FROM credit_period_start($1 + h * interval '30 minutes', $2, $3, n)) \
               * 1000000)::bigint ORDER BY h, n) FROM generate_series(0, 47) AS h, generate_series(0, $4::bigint) AS n";
    let values = [day.into(), zone.as_str().into(), period.as_str().into(), most.into()];
    serde_json::from_value(rpc.answer(sql, values).await.unwrap()).unwrap()
}

#[test]
fn periods_begin_when_the_domain_says() {
    tests::run(Engine::Postgres, async |db: TestDb| {
        let rpc = Rpc::connect(&db).await.unwrap();
        for zone in ZONES {
            let zone = TimeZone::new(zone).unwrap();
            for (day, period, most) in [
                ("2011-03-01T00:00:00Z", PlanPeriod::Day, 366),
                ("2026-02-20T00:00:00Z", PlanPeriod::Day, 300),
                ("2026-01-31T00:00:00Z", PlanPeriod::Month, 30),
                ("2025-10-26T00:00:00Z", PlanPeriod::Week, 60),
                ("2024-02-29T00:00:00Z", PlanPeriod::Year, 30),
                ("2026-03-29T00:00:00Z", PlanPeriod::Year, 20),
                ("2026-10-25T00:00:00Z", PlanPeriod::Month, 13),
            ] {
                let got = starts(&rpc, at(day), &zone, period, most).await;
                let anchors = (0..48).map(|half_hour| at(day) + Duration::minutes(30 * half_hour));
                let places = anchors.flat_map(|anchor| (0..=most).map(move |number| (anchor, number)));
                for ((anchor, number), got) in places.zip(got) {
                    let expected = period.after(anchor, &zone, number).map(|at| at.timestamp_micros());
                    assert_eq!(
                        got,
                        expected,
                        "{number} times a {} after {anchor} in {}",
                        period.as_str(),
                        zone.as_str()
                    );
                }
            }
        }
    });
}

#[test]
fn the_calendar_ends_where_the_domains_does() {
    tests::run(Engine::Postgres, async |db: TestDb| {
        let rpc = Rpc::connect(&db).await.unwrap();
        let zone = TimeZone::new("Europe/Berlin").unwrap();
        let anchor = at("2026-01-31T10:00:00Z");
        for (period, last) in [
            (PlanPeriod::Day, 2_912_401_i64),
            (PlanPeriod::Week, 416_057),
            (PlanPeriod::Month, 95_687),
            (PlanPeriod::Year, 7_973),
        ] {
            for number in
                [last - 3, last - 2, last - 1, last, last + 1, last + 2, 10 * last, i64::from(i32::MAX) + 1, i64::MAX]
            {
                let values = [anchor.into(), zone.as_str().into(), period.as_str().into(), number.into()];
                let got: Option<DateTime<Utc>> =
                    rpc.answer("SELECT credit_period_start($1, $2, $3, $4)", values).await.unwrap();
                assert_eq!(got, period.after(anchor, &zone, number), "{number} times a {}", period.as_str());
            }
        }
    });
}

/// Whoever only reads settles in memory, by the domain's rules, and makes the ids of periods. The function must make
/// the same ones, and what is read afterwards be what was read before.
#[test]
fn a_reader_sees_before_a_call_what_the_call_then_writes() {
    tests::run(Engine::Postgres, async |db: TestDb| {
        let rpc = Rpc::connect(&db).await.unwrap();
        let begins = at("2026-01-31T09:30:00.000001Z");
        let now = begins + Duration::days(800);
        let clock = Clock::manual(begins);
        let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
        let store = Store::open(config).await.unwrap();
        for (place, zone) in ["Europe/Berlin", "America/Santiago", "UTC", "CET"].into_iter().enumerate() {
            for period in PlanPeriod::ALL {
                let name = format!("plan-{}.{place}", period.as_str());
                clock.set(begins);
                let new =
                    NewOrganization { name: name.clone(), external_id: None, time_zone: TimeZone::new(zone).unwrap() };
                let id = store.create_organization(new).await.unwrap().id;
                store.grant(id, purchase(of_values([7, 0, 0, 0])), None).await.unwrap();
                let code = PlanCode::new(name).unwrap();
                let plan = NewPlan {
                    allowance: of_values([5, 0, 2, 0]),
                    period,
                    rollover_max: Some(of_values([3, 0, 9, 0])),
                    priority: 10,
                };
                store.put_plan(code.clone(), plan).await.unwrap();
                store.subscribe(id, &code, None).await.unwrap();
                clock.set(now);
                let see = async || {
                    let grants = store.grants(id, PageRequest::first(2_000)).await.unwrap().items;
                    let plans = grants.iter().filter(|grant| grant.lot.source == GrantSource::Plan).count();
                    let ledger = store.ledger(id, PageRequest::first(5_000)).await.unwrap().items;
                    let subscription = store.subscription(id).await.unwrap();
                    (plans, format!("{grants:#?} {ledger:#?} {subscription:#?}"))
                };
                let (periods, before) = see().await;
                assert!(periods >= 3, "{periods} periods");
                let answer = rpc.consume_at(id, "ai_chat", Quantity::MAX.get(), now).await.unwrap();
                assert_eq!(answer["error"], "insufficient_credits");
                let unsettled = "SELECT next_boundary_at > $1 FROM organization_credits WHERE organization_id = $2";
                assert!(rpc.answer::<bool, 2>(unsettled, [now.into(), id.uuid().into()]).await.unwrap());
                let (_, after) = see().await;
                assert_eq!(before, after, "{} in {zone}", period.as_str());
            }
        }
        assert!(store.verify().await.unwrap().passed());
    });
}
