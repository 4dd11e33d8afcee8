//! A report is exact, whatever has been rolled up and whatever happens meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::TimeDelta;
use multicredit_domain::{
    Consume, CreditType, NewRefund, OnExpired, OrganizationId, Quantity, TimeZone, Timestamp, UsageBucket,
};
use multicredit_store::clock::Clock;
use multicredit_store::{Store, StoreConfig, UsageQuery};
use sea_orm::DatabaseConnection;
use tests::app::instant;
use tests::fixtures::{credits, organization, request, store};
use tests::{TestDb, both_engines};

use super::naive;

/// Zones with whole, half and three quarter hours, on both sides of the date line, with clocks that are set and not.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "America/New_York",
];

const ACTIONS: [&str; 4] = ["ai_chat", "whatsapp_ai_reply", "email", "sms"];

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn small(&mut self, sides: u64) -> i64 {
        i64::try_from(self.roll(sides)).unwrap()
    }
}

fn many() -> multicredit_domain::Credits {
    credits([
        (CreditType::Ai, 100_000),
        (CreditType::Whatsapp, 100_000),
        (CreditType::Email, 100_000),
        (CreditType::Sms, 40),
    ])
}

async fn at_clock(db: &TestDb, clock: &Clock) -> Store {
    Store::open(StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) }).await.unwrap()
}

/// Asserts that reports over that period by every bucket and zone are what the log says.
async fn assert_exact(
    store: &Store,
    db: &DatabaseConnection,
    organization_id: OrganizationId,
    (from, to): (Timestamp, Timestamp),
) {
    let events = naive::events(db, organization_id).await;
    for zone in ZONES {
        for bucket in UsageBucket::ALL {
            for by_action in [false, true] {
                let query = UsageQuery { from, to, bucket, time_zone: TimeZone::new(zone).unwrap(), by_action };
                let found = store.usage(organization_id, &query).await.unwrap();
                let found = naive::shown(&found, bucket, zone);
                let expected = naive::report(&events, (from, to), bucket, zone, by_action);
                // On Lord Howe Island an hour that is lived through by half again is one bucket, and two labels.
                if zone != "Australia/Lord_Howe" || bucket != UsageBucket::Hour {
                    assert_eq!(found, expected, "{zone} by {bucket:?}");
                }
            }
        }
    }
}

both_engines!(reports_are_what_the_log_says_in_every_time_zone_however_much_is_rolled_up, async |db| {
    // Clocks are set back in Berlin and New York in these weeks.
    let clock = Clock::manual(instant("2026-10-20T07:11:13Z"));
    let store = at_clock(&db, &clock).await;
    let look = db.connect().await.unwrap();
    let mut dice = Dice(0x5eed_1234_5678_9abc);
    let acme = organization(&store, "acme", many()).await;
    let other = organization(&store, "other", many()).await;
    let mut now = instant("2026-10-20T07:11:13Z");
    let mut spent = Vec::new();
    for round in 0..160 {
        now += TimeDelta::seconds(dice.small(20_000));
        clock.set(now);
        let action = ACTIONS[usize::try_from(dice.roll(4)).unwrap()];
        let late = (dice.roll(3) == 0).then(|| now - TimeDelta::minutes(dice.small(34 * 24 * 60)));
        let request = Consume { occurred_at: late, ..request(action, 1 + dice.small(5)) };
        let who = if dice.roll(4) == 0 { other } else { acme };
        if let Ok(answer) = store.consume(who, request, None).await {
            spent.push((who, answer.value));
        }
        if dice.roll(4) == 0 && !spent.is_empty() {
            let (who, consumption) = &spent[usize::try_from(dice.roll(spent.len() as u64)).unwrap()];
            let refund = NewRefund {
                consumption_id: consumption.id,
                quantity: Some(Quantity::ONE),
                reason: "a test".to_owned(),
                on_expired: OnExpired::Refuse,
            };
            // More than was consumed is refused, which changes nothing.
            let _ = store.refund(*who, refund, None).await;
        }
        if dice.roll(10) == 0 {
            store.roll_up_usage((round % 2 == 0).then(|| now - TimeDelta::days(2))).await.unwrap();
        }
    }
    let whole = (instant("2026-09-01T00:00:00Z"), instant("2026-12-01T00:00:00Z"));
    let part = (instant("2026-10-24T22:15:00Z"), instant("2026-11-01T05:45:00Z"));
    for organization_id in [acme, other] {
        assert_exact(&store, &look, organization_id, whole).await;
        assert_exact(&store, &look, organization_id, part).await;
    }
    clock.set(now + TimeDelta::seconds(1));
    let rolled = store.roll_up_usage(None).await.unwrap();
    assert!(rolled.organizations >= 1 && rolled.failed == 0, "{rolled:?}");
    assert_eq!(store.roll_up_usage(None).await.unwrap(), multicredit_store::RolledUp::default(), "nobody moved since");
    for organization_id in [acme, other] {
        assert_exact(&store, &look, organization_id, whole).await;
        assert_exact(&store, &look, organization_id, part).await;
    }
    let refused = naive::events(&look, acme).await.iter().filter(|event| event.sums.refused > 0).count();
    assert!(refused > 3, "only {refused} attempts were refused");
    assert!(store.verify().await.unwrap().passed());
});

both_engines!(reports_are_exact_while_others_spend_and_roll_up, async |db| {
    let store = Arc::new(store(&db).await);
    let replica = Arc::new(tests::fixtures::store(&db).await);
    let acme = organization(&store, "acme", many()).await;
    let spending = Arc::new(AtomicBool::new(true));
    let mut tasks = Vec::new();
    for worker in 0..4_usize {
        let (store, spending) = (if worker % 2 == 0 { &store } else { &replica }.clone(), spending.clone());
        tasks.push(tokio::spawn(async move {
            let mut done = 0_i64;
            while spending.load(Ordering::SeqCst) {
                // The short messages run out, so that there are refusals as well.
                let action = if done % 3 == 0 { "sms" } else { "ai_chat" };
                let _ = store.consume(acme, request(action, 1), None).await;
                done += 1;
            }
            done
        }));
    }
    let query = |now: Timestamp| UsageQuery {
        from: now - TimeDelta::hours(1),
        to: now + TimeDelta::hours(1),
        bucket: UsageBucket::Month,
        time_zone: TimeZone::default(),
        by_action: false,
    };
    let mut seen = 0;
    let look = db.connect().await.unwrap();
    for round in 0..12 {
        if round % 2 == 0 {
            let (mine, theirs) = tokio::join!(store.roll_up_usage(None), replica.roll_up_usage(None));
            assert_eq!((mine.unwrap().failed, theirs.unwrap().failed), (0, 0));
        }
        let report = store.usage(acme, &query(store.now().await.unwrap())).await.unwrap();
        let found: i64 = report.lines.iter().map(|line| line.sums.count + line.sums.refused).sum();
        assert!(found >= seen, "{found} after {seen}");
        seen = found;
        // What lies before that instant is all there, and nothing can join it: a later look finds no more of it.
        let complete = report.complete_through;
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let later = naive_count(&look, acme, complete).await;
        assert!(found >= later, "{found} were reported, and {later} had been decided before {complete}");
    }
    spending.store(false, Ordering::SeqCst);
    let mut done = 0;
    for task in tasks {
        done += task.await.unwrap();
    }
    let report = store.usage(acme, &query(store.now().await.unwrap())).await.unwrap();
    let found: i64 = report.lines.iter().map(|line| line.sums.count + line.sums.refused).sum();
    assert_eq!(found, done);
    assert!(store.verify().await.unwrap().passed());
});

/// How many attempts were decided before an instant.
async fn naive_count(db: &DatabaseConnection, organization_id: OrganizationId, before: Timestamp) -> i64 {
    use multicredit_store::entity::credit_consumption_logs::{Column, Entity};
    use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
    let query = Entity::find().filter(Column::OrganizationId.eq(organization_id.uuid()));
    i64::try_from(query.filter(Column::CreatedAt.lt(before)).count(db).await.unwrap()).unwrap()
}
