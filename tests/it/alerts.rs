//! Alerts and automatic top-up beneath the API: that a crossing makes one event however many consumptions cross it and
//! however many processes look, that nothing is told by half, and that a request for credits is answered once.

use std::time::Duration;

use chrono::TimeDelta;
use multicredit_domain::{
    AlertMeasure, AlertRule, AlertTerms, CreditType, Credits, NewGrant, OrganizationId, Refusal, Timestamp, TopUpId,
    TopUpState, TopUpTerms,
};
use multicredit_store::clock::Clock;
use multicredit_store::{
    AlertRuleUpdate, ConsumptionFilter, Evaluated, NewAlertRule, PageRequest, RaisedEvent, Store, StoreConfig,
    StoreError,
};
use sea_orm::{ConnectionTrait, Statement};
use tests::fixtures::{ai, amount, credits, key, organization, purchase, request, store};
use tests::{Engine, TestDb, both_engines};

const LOW: &str = "balance.low";
const DEPLETED: &str = "balance.depleted";
const RECOVERED: &str = "balance.recovered";

/// A rule of an organization's AI credits.
async fn rule(store: &Store, whose: Option<OrganizationId>, terms: (AlertMeasure, i64, Option<i64>)) -> AlertRule {
    let (measure, threshold, recover_at) = terms;
    let new = NewAlertRule {
        organization_id: whose,
        name: format!("{} {threshold}", measure.as_str()),
        credit_type: Some(CreditType::Ai),
        terms: AlertTerms { measure, threshold, recover_at },
        active: true,
    };
    store.create_alert_rule(new).await.unwrap()
}

const fn below(threshold: i64) -> (AlertMeasure, i64, Option<i64>) {
    (AlertMeasure::Amount, threshold, None)
}

async fn spend(store: &Store, id: OrganizationId, credits: i64) {
    store.consume(id, request("ai_chat", credits), None).await.unwrap();
}

/// Everything that was raised for an organization, oldest first. Its numbers are dense from 1.
async fn raised(store: &Store, id: OrganizationId) -> Vec<RaisedEvent> {
    let mut events = store.raised_events(id, PageRequest::first(100)).await.unwrap().items;
    events.reverse();
    let numbers = events.iter().map(|event| event.number).collect::<Vec<_>>();
    assert_eq!(numbers, (1..).take(events.len()).collect::<Vec<_>>());
    events
}

/// The same as type and movement.
async fn told(store: &Store, id: OrganizationId) -> Vec<(String, i64)> {
    let events = raised(store, id).await.into_iter();
    events.map(|event| (event.event_type, event.data["sequence"].as_i64().unwrap())).collect()
}

fn line(event: &str, sequence: i64) -> (String, i64) {
    (event.to_owned(), sequence)
}

both_engines!(a_crossing_is_told_once_and_where_it_was, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "acme", ai(100)).await;
    let low = rule(&store, Some(id), below(50)).await;
    rule(&store, Some(id), below(0)).await;
    spend(&store, id, 40).await;
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0);
    spend(&store, id, 11).await;
    spend(&store, id, 1).await;
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    let crossing =
        store.consumptions(id, ConsumptionFilter::default(), PageRequest::first(2)).await.unwrap().items.remove(1);
    let event = raised(&store, id).await.remove(0);
    assert_eq!((event.event_type.as_str(), event.occurred_at), (LOW, crossing.created_at));
    assert_eq!(
        event.data,
        serde_json::json!({
            "rule_id": low.id, "rule_name": "amount 50", "measure": "amount", "threshold": 50, "recover_at": null,
            "credit_type": "ai", "available": 49, "sequence": 3, "consumption_id": crossing.id,
        })
    );
    assert_eq!(store.evaluate_alerts().await.unwrap(), Evaluated::default(), "nothing has moved");
    spend(&store, id, 48).await;
    store.grant(id, purchase(ai(10)), None).await.unwrap();
    spend(&store, id, 10).await;
    store.grant(id, purchase(ai(100)), None).await.unwrap();
    // All of this between two looks: what was crossed down and up again is told both times.
    store.evaluate_alerts().await.unwrap();
    let expected = [
        line(LOW, 3),
        line(DEPLETED, 5),
        line(RECOVERED, 6),
        line(DEPLETED, 7),
        line(RECOVERED, 8),
        line(RECOVERED, 8),
    ];
    assert_eq!(told(&store, id).await, expected);
});

both_engines!(a_share_is_that_of_the_last_grant_and_may_recover_higher_than_it_falls, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "acme", ai(1_000)).await;
    rule(&store, None, (AlertMeasure::Share, 20, Some(50))).await;
    spend(&store, id, 799).await;
    store.evaluate_alerts().await.unwrap();
    assert_eq!(told(&store, id).await, []);
    spend(&store, id, 1).await;
    // 260 of 60 is more than half of the last grant.
    store.grant(id, purchase(ai(60)), None).await.unwrap();
    spend(&store, id, 247).await;
    spend(&store, id, 1).await;
    store.evaluate_alerts().await.unwrap();
    assert_eq!(told(&store, id).await, [line(LOW, 3), line(RECOVERED, 4), line(LOW, 6)]);
    let last = raised(&store, id).await.remove(2);
    assert_eq!((&last.data["available"], &last.data["last_grant"]), (&12.into(), &60.into()));
    // 17 is below half of 60, and a correction is no grant.
    let adjusted = store.adjust(id, multicredit_domain::Delta::from_array([5, 0, 0, 0]), "gift".to_owned(), None).await;
    adjusted.unwrap();
    store.evaluate_alerts().await.unwrap();
    assert_eq!(told(&store, id).await.len(), 3);
});

both_engines!(many_consumptions_at_once_and_many_who_look_make_one_event, async |db| {
    let stores = [store(&db).await, store(&db).await, store(&db).await];
    let [one, other, third] = &stores;
    let id = organization(one, "busy", ai(400)).await;
    rule(one, Some(id), below(200)).await;
    let spending = async {
        let many = (0..350).map(|i| {
            let store = &stores[i % 2];
            async move { store.consume(id, request("ai_chat", 1), None).await.map(drop) }
        });
        for spent in futures_util::future::join_all(many).await {
            spent.unwrap();
        }
    };
    let looking = |store: &Store| {
        let store = store.clone();
        async move {
            for _ in 0..20 {
                assert_eq!(store.evaluate_alerts().await.unwrap().failed, 0);
            }
        }
    };
    tokio::join!(spending, looking(one), looking(other), looking(third));
    third.evaluate_alerts().await.unwrap();
    let events = raised(one, id).await;
    assert_eq!(events.len(), 1, "{events:?}");
    // The 200th consumption left 200.
    assert_eq!((&events[0].data["available"], &events[0].data["sequence"]), (&200.into(), &201.into()));
});

both_engines!(a_rule_begins_where_the_ledger_was_when_it_was_made_and_anew_when_it_means_something_else, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "acme", ai(100)).await;
    spend(&store, id, 95).await;
    // Low already: nothing to tell until it has risen.
    let rule = rule(&store, None, below(10)).await;
    spend(&store, id, 1).await;
    store.evaluate_alerts().await.unwrap();
    store.grant(id, purchase(ai(96)), None).await.unwrap();
    spend(&store, id, 91).await;
    store.evaluate_alerts().await.unwrap();
    assert_eq!(told(&store, id).await, [line(LOW, 5)]);
    let update = AlertRuleUpdate { threshold: Some(5), ..Default::default() };
    let changed = store.update_alert_rule(None, rule.id, update).await.unwrap();
    assert!(changed.since > rule.since);
    // 9 is above the new threshold: it is armed again without a word, and fires below.
    spend(&store, id, 4).await;
    store.evaluate_alerts().await.unwrap();
    assert_eq!(told(&store, id).await, [line(LOW, 5), line(LOW, 6)]);
    let off = AlertRuleUpdate { active: Some(false), ..Default::default() };
    store.update_alert_rule(None, rule.id, off).await.unwrap();
    store.grant(id, purchase(ai(100)), None).await.unwrap();
    store.evaluate_alerts().await.unwrap();
    assert_eq!(told(&store, id).await.len(), 2);
    store.delete_alert_rule(None, rule.id).await.unwrap();
    assert!(matches!(store.alert_rule(None, rule.id).await, Err(StoreError::NotFound)));
    let states = Statement::from_string(store.pool().get_database_backend(), "SELECT COUNT(*) AS n FROM alert_states");
    let states: i64 = store.pool().query_one_raw(states).await.unwrap().unwrap().try_get("", "n").unwrap();
    assert_eq!(states, 0, "states go with their rule");
});

both_engines!(a_rule_about_everybody_tells_of_each_by_itself_and_catches_up_with_a_long_past, async |db| {
    let store = store(&db).await;
    rule(&store, None, below(0)).await;
    let acme = organization(&store, "acme", ai(3)).await;
    let beta = organization(&store, "beta", credits([(CreditType::Sms, 5)])).await;
    spend(&store, acme, 3).await;
    // More movements than one transaction looks at.
    for _ in 0..1_100 {
        store.grant(acme, purchase(ai(1)), None).await.unwrap();
    }
    spend(&store, acme, 1_100).await;
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 3);
    assert_eq!(told(&store, acme).await, [line(DEPLETED, 2), line(RECOVERED, 3), line(DEPLETED, 1_103)]);
    assert_eq!(raised(&store, beta).await, []);
});

both_engines!(what_fails_half_way_has_told_nothing_and_is_told_the_next_time, async |db| {
    let store = store(&db).await;
    let id = organization(&store, "acme", ai(10)).await;
    rule(&store, Some(id), below(5)).await;
    spend(&store, id, 6).await;
    // The cursor is written last: whatever was written before must go with it.
    let owner = db.connect().await.unwrap();
    let (break_it, mend_it) = match db.engine() {
        Engine::Postgres => (
            "ALTER TABLE alert_cursors ADD CONSTRAINT broken CHECK (sequence < 2)",
            "ALTER TABLE alert_cursors DROP CONSTRAINT broken",
        ),
        Engine::Sqlite => (
            "CREATE TRIGGER broken BEFORE UPDATE ON alert_cursors BEGIN SELECT RAISE(ABORT, 'broken'); END",
            "DROP TRIGGER broken",
        ),
    };
    owner.execute_unprepared(break_it).await.unwrap();
    assert_eq!(store.evaluate_alerts().await.unwrap().failed, 1);
    assert_eq!(raised(&store, id).await, []);
    owner.execute_unprepared(mend_it).await.unwrap();
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    assert_eq!(told(&store, id).await, [line(LOW, 2)]);
});

/// A store whose clock is moved by hand, and the clock.
async fn store_with_clock(db: &TestDb) -> (Store, Clock, Timestamp) {
    let start = "2026-12-01T00:00:00Z".parse().unwrap();
    let clock = Clock::manual(start);
    let config = StoreConfig { clock: clock.clone(), ..StoreConfig::new(db.url()) };
    (Store::open(config).await.unwrap(), clock, start)
}

both_engines!(a_forecast_that_comes_near_is_told_once_and_again_when_it_was_far, async |db| {
    let (store, clock, start) = store_with_clock(&db).await;
    let id = organization(&store, "acme", ai(1_000)).await;
    rule(&store, Some(id), (AlertMeasure::ForecastDays, 7, None)).await;
    let every = Duration::from_mins(15);
    let look = async |minutes: i64| {
        clock.set(start + TimeDelta::minutes(minutes));
        store.evaluate_forecasts(every).await.unwrap()
    };
    assert_eq!(look(1).await.events, 0, "nothing is used: it lasts for ever");
    spend(&store, id, 300).await;
    assert_eq!(look(11).await.organizations, 0, "it was looked at ten minutes ago");
    // 300 in seven days leaves 700 for more than sixteen days.
    assert_eq!((look(20).await.organizations, raised(&store, id).await.len()), (1, 0));
    spend(&store, id, 300).await;
    assert_eq!(look(40).await.events, 1);
    assert_eq!(look(60).await.events, 0);
    store.grant(id, purchase(ai(10_000)), None).await.unwrap();
    assert_eq!(look(80).await.events, 1);
    let events = raised(&store, id).await;
    assert_eq!(events.iter().map(|event| event.event_type.as_str()).collect::<Vec<_>>(), [LOW, RECOVERED]);
    assert_eq!((&events[0].data["available"], events[0].data["runs_out_at"].is_string()), (&400.into(), true));
    // A new rule is looked at without waiting for its turn, and finds what there is.
    rule(&store, None, (AlertMeasure::ForecastDays, 300, None)).await;
    assert_eq!((look(81).await.organizations, raised(&store, id).await.len()), (1, 2));
});

const TERMS: TopUpTerms = TopUpTerms {
    threshold: multicredit_domain::Amount::ZERO,
    amount: multicredit_domain::Amount::ZERO,
    timeout_seconds: 600,
    cooldown_seconds: 60,
    window_seconds: 86_400,
    window_max: 3,
    active: true,
};

/// An organization of 100 AI credits that asks for 500 where 20 are left.
async fn topped_up(store: &Store) -> OrganizationId {
    let id = organization(store, "acme", ai(100)).await;
    let terms = TopUpTerms { threshold: amount(20), amount: amount(500), ..TERMS };
    store.put_top_up_rule(id, CreditType::Ai, terms).await.unwrap();
    id
}

fn answering(credits: Credits, id: TopUpId) -> NewGrant {
    NewGrant { top_up_id: Some(id), ..purchase(credits) }
}

/// The last request, if there is any.
async fn last_request(store: &Store, id: OrganizationId) -> multicredit_domain::TopUp {
    store.top_ups(id, PageRequest::first(1)).await.unwrap().items.remove(0)
}

both_engines!(credits_are_asked_for_once_and_an_answer_is_taken_once, async |db| {
    let (store, clock, start) = store_with_clock(&db).await;
    let id = topped_up(&store).await;
    spend(&store, id, 79).await;
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0);
    spend(&store, id, 1).await;
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0, "one is under way");
    let asked = last_request(&store, id).await;
    let event = raised(&store, id).await.remove(0);
    assert_eq!(event.event_type, "topup.requested");
    let expected = serde_json::json!({
        "top_up_id": asked.id, "credit_type": "ai", "amount": 500, "available": 20, "threshold": 20,
        "expires_at": start + TimeDelta::seconds(600), "sequence": 3,
    });
    assert_eq!(event.data, expected);

    let other = organization(&store, "other", ai(1)).await;
    let unknown = store.grant(other, answering(ai(500), asked.id), None).await.unwrap_err();
    assert!(matches!(unknown, StoreError::Refused(Refusal::UnknownTopUp)), "{unknown}");
    let wrong = store.grant(id, answering(credits([(CreditType::Sms, 5)]), asked.id), None).await.unwrap_err();
    assert!(matches!(wrong, StoreError::Refused(Refusal::InvalidField { field: "credits", .. })), "{wrong}");

    let first = store.grant(id, answering(ai(500), asked.id), key("answer")).await.unwrap();
    let again = store.grant(id, answering(ai(500), asked.id), key("answer")).await.unwrap();
    assert_eq!((again.replayed, again.value), (true, first.value.clone()));
    let twice = store.grant(id, answering(ai(500), asked.id), key("another")).await.unwrap_err();
    assert!(matches!(twice, StoreError::Refused(Refusal::TopUpGranted)), "{twice}");
    let answered = store.top_up(id, asked.id).await.unwrap();
    assert_eq!((answered.state, answered.granted), (TopUpState::Granted, Some((first.value.lot.id, start))));
    assert!(!answered.is_late());
    assert_eq!(store.balance(id).await.unwrap().balance.available, ai(520));

    // Answered, but the pause is not over.
    spend(&store, id, 520).await;
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0);
    clock.set(start + TimeDelta::seconds(59));
    assert_eq!(store.evaluate_alerts().await.unwrap().organizations, 0, "it is known that it waits");
    clock.set(start + TimeDelta::seconds(60));
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    assert_ne!(last_request(&store, id).await.id, asked.id);
});

both_engines!(a_request_that_nobody_answers_is_made_again_and_a_late_answer_is_taken, async |db| {
    let (store, clock, start) = store_with_clock(&db).await;
    let id = topped_up(&store).await;
    spend(&store, id, 100).await;
    store.evaluate_alerts().await.unwrap();
    let first = last_request(&store, id).await;
    clock.set(start + TimeDelta::seconds(599));
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0);
    clock.set(start + TimeDelta::seconds(600));
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    assert_eq!(store.top_up(id, first.id).await.unwrap().state, TopUpState::TimedOut);
    let second = last_request(&store, id).await;
    // The answer to the first comes while the second is under way: both are taken, each once.
    store.grant(id, answering(ai(5), first.id), None).await.unwrap();
    let late = store.top_up(id, first.id).await.unwrap();
    assert!(late.is_late() && late.state == TopUpState::Granted);
    assert!(store.grant(id, answering(ai(5), first.id), None).await.is_err());
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0, "the second is still under way");
    store.grant(id, answering(ai(6), second.id), None).await.unwrap();
    assert_eq!(store.balance(id).await.unwrap().balance.available, ai(11));
    // The third is the last that the window allows, until the first has left it.
    clock.set(start + TimeDelta::seconds(700));
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    store.grant(id, answering(ai(1), last_request(&store, id).await.id), None).await.unwrap();
    clock.set(start + TimeDelta::seconds(86_399));
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 0);
    clock.set(start + TimeDelta::seconds(86_400));
    assert_eq!(store.evaluate_alerts().await.unwrap().events, 1);
    store.delete_top_up_rule(id, CreditType::Ai).await.unwrap();
    let last = last_request(&store, id).await;
    store.grant(id, answering(ai(500), last.id), None).await.expect("who was asked may answer");
    clock.set(start + TimeDelta::days(9));
    assert_eq!(store.evaluate_alerts().await.unwrap(), Evaluated::default());
});

both_engines!(many_who_look_ask_once_and_many_who_answer_grant_once, async |db| {
    let stores = [store(&db).await, store(&db).await, store(&db).await];
    let id = topped_up(&stores[0]).await;
    spend(&stores[0], id, 95).await;
    futures_util::future::join_all((0..30).map(|i| stores[i % 3].evaluate_alerts())).await;
    let asked = stores[0].top_ups(id, PageRequest::first(10)).await.unwrap().items;
    assert_eq!((asked.len(), raised(&stores[0], id).await.len()), (1, 1));
    let answers = (0..24).map(|i| stores[i % 3].grant(id, answering(ai(500), asked[0].id), None));
    let answers = futures_util::future::join_all(answers).await;
    let granted = answers.iter().filter(|answer| answer.is_ok()).count();
    let refused = |answer: &&Result<_, StoreError>| matches!(answer, Err(StoreError::Refused(Refusal::TopUpGranted)));
    assert_eq!((granted, answers.iter().filter(refused).count()), (1, 23));
    assert_eq!(stores[1].balance(id).await.unwrap().balance.available, ai(505));
});
