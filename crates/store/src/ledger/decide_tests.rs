use std::collections::BTreeSet;

use chrono::TimeDelta;
use multicredit_domain::refund::Refundable;
use multicredit_domain::{
    Amount, Consume, ConsumptionId, CreditType, Credits, Delta, GrantSource, IdempotencyKey, MovementKind, NewGrant,
    NewHold, NewRefund, OnExpired, PlanCode, PlanPeriod, PlanTerms, Quantity, RefundId, TimeZone, TopUpId, TopUpState,
};

use super::super::refundable::Found;
use super::*;
use crate::audit::AuditOperation;

const ONE: OrganizationId = OrganizationId::new(Uuid::from_u128(1));
const OTHER: OrganizationId = OrganizationId::new(Uuid::from_u128(2));

/// What the first organization has from the beginning: a hundred credits.
const LOT: GrantId = GrantId::new(Uuid::from_u128(3));

/// The movement that granted them is its first, and this hold the second.
const HOLD: HoldId = HoldId::new(Uuid::from_u128(4));

/// A consumption of four, of before the batch.
const SPENT: ConsumptionId = ConsumptionId::new(Uuid::from_u128(5));

const TOP_UP: TopUpId = TopUpId::new(Uuid::from_u128(6));

fn seconds(count: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + TimeDelta::seconds(count)
}

fn ai(value: i64) -> Credits {
    Credits::of(CreditType::Ai, Amount::new(value).unwrap())
}

fn quantity(value: i64) -> Quantity {
    Quantity::new(value).unwrap()
}

fn action() -> ActionType {
    ActionType::new("ai_chat").unwrap()
}

fn price(version: i32) -> Price {
    Price {
        version,
        costs: ai(version.into()),
        unit_size: Quantity::ONE,
        active: true,
        effective_at: seconds(i64::from(version) * 100 - 100),
        description: None,
    }
}

fn grant(credits: i64) -> NewGrant {
    NewGrant {
        credits: ai(credits),
        source: GrantSource::Purchase,
        priority: 10,
        effective_at: None,
        expires_at: None,
        reference: Some(format!("invoice of {credits}")),
        top_up_id: None,
    }
}

fn consume(wanted: i64) -> Request {
    Request::Consume(Consume {
        action: action(),
        quantity: quantity(wanted),
        occurred_at: None,
        metadata: None,
        actor: None,
    })
}

fn hold(wanted: i64) -> NewHold {
    NewHold { action: action(), quantity: quantity(wanted), ttl_seconds: 3_600, actor: None }
}

fn capture(quantity: Option<Quantity>) -> Request {
    Request::Capture { hold_id: HOLD, quantity }
}

fn refund(consumption_id: ConsumptionId) -> Request {
    let reason = "it did not work".to_owned();
    Request::Refund(NewRefund { consumption_id, quantity: None, reason, on_expired: OnExpired::Refuse })
}

fn terms(allowance: i64) -> PlanTerms {
    let code = PlanCode::new("pro").unwrap();
    PlanTerms { code, version: 1, allowance: ai(allowance), period: PlanPeriod::Day, rollover_max: None, priority: 5 }
}

fn subscribe(allowance: i64, anchor: Option<Timestamp>) -> Request {
    Request::Subscribe { terms: terms(allowance), time_zone: TimeZone::default(), anchor }
}

fn task_of(organization_id: OrganizationId, id: u128, request: Request, key: Option<&str>) -> Task {
    let binding = key.map(|key| request.bind(IdempotencyKey::of_request(key).unwrap()).unwrap());
    Task { organization_id, id: Uuid::from_u128(100 + id), request, binding, author: None }
}

/// Requests of the first organization.
fn tasks(requests: impl IntoIterator<Item = Request>) -> Vec<Task> {
    (0..).zip(requests).map(|(id, request)| task_of(ONE, id, request, None)).collect()
}

/// The first organization as `change` left it after it was granted a hundred credits at 0; the other, that has nothing;
/// and the prices of an action: 1, and 2 from 100 on. The clock shows 150.
fn facts_after(change: impl FnOnce(&mut Book)) -> Facts {
    let mut book = Book::new(Account::open(ONE, seconds(0)), Pages::default());
    book.grant(LOT, &grant(100), seconds(0)).unwrap();
    change(&mut book);
    let (account, pages, _) = book.into_parts();
    Facts {
        clock: seconds(150),
        accounts: BTreeMap::from([(ONE, account), (OTHER, Account::open(OTHER, seconds(0)))]),
        pages: HashMap::from([(ONE, pages)]),
        references: HashMap::from([(LOT, "the first".to_owned())]),
        prices: HashMap::from([(action(), vec![price(1), price(2)])]),
        ..Facts::default()
    }
}

fn facts() -> Facts {
    facts_after(|_| ())
}

/// With ten credits held at a price of 1.
fn facts_with_a_hold() -> Facts {
    facts_after(|book| {
        book.place_hold(HOLD, &hold(10), &[price(1)], seconds(50)).unwrap();
    })
}

fn facts_with_a_subscription() -> Facts {
    facts_after(|book| {
        let new = Subscription::new(ONE, terms(10), TimeZone::default(), seconds(0), seconds(0));
        book.subscribe(new, seconds(0)).unwrap();
    })
}

fn facts_of_a(status: OrganizationStatus) -> Facts {
    facts_after(|book| book.account.status = status)
}

fn run(facts: Facts, tasks: &[Task]) -> (Vec<Verdict>, Effects) {
    decide(facts, &tasks.iter().collect::<Vec<_>>()).unwrap()
}

/// What one request comes to.
fn run_one(facts: Facts, request: Request) -> (Verdict, Effects) {
    let (mut verdicts, effects) = run(facts, &tasks([request]));
    assert_eq!(verdicts.len(), 1);
    (verdicts.remove(0), effects)
}

/// A verdict in few words: what was done, and whether before, or why not.
fn told(verdict: &Verdict) -> String {
    match verdict {
        Ok(answer) => {
            let name = match &answer.value {
                Reply::Consumption(consumption) => format!("spent {}", consumption.consumed[CreditType::Ai].get()),
                Reply::Grant(grant) => format!("lot of {}", grant.lot.granted[CreditType::Ai].get()),
                Reply::Adjustment(adjustment) => format!("now {}", adjustment.available[CreditType::Ai].get()),
                Reply::Hold(answer) => format!("hold {}", answer.hold.state.as_str()),
                Reply::Refund(refund) => format!("refund of {}", refund.refunded[CreditType::Ai].get()),
                Reply::Subscription(subscription) => format!("subscribed {}", subscription.is_some()),
                Reply::Status(status) => status.to_string(),
                Reply::Settled => "settled".to_owned(),
            };
            if answer.replayed { format!("{name}, replayed") } else { name }
        }
        Err(StoreError::Refused(refusal)) => refusal.code().to_owned(),
        Err(error) => panic!("{error}"),
    }
}

fn all_told(verdicts: &[Verdict]) -> Vec<String> {
    verdicts.iter().map(told).collect()
}

#[test]
fn each_request_sees_what_those_before_it_did() {
    let tasks = tasks([consume(40), consume(40), Request::Grant(grant(60)), consume(40)]);
    let (verdicts, effects) = run(facts(), &tasks);
    assert_eq!(all_told(&verdicts), ["spent 80", "insufficient_credits", "lot of 60", "spent 80"]);
    let [account] = &effects.accounts[..] else { panic!("{:?}", effects.accounts) };
    assert_eq!((account.sequence, account.available), (4, ai(0)));
    let logged = |it: &Consumption| (it.id.uuid(), it.price_version, it.consumed, it.outcome.clone(), it.created_at);
    let spent = |sequence, left| Outcome::Spent { sequence, available: ai(left) };
    let refused = Outcome::Refused { error_code: "insufficient_credits".to_owned() };
    assert_eq!(
        effects.consumptions.iter().map(logged).collect::<Vec<_>>(),
        [
            (tasks[0].id, Some(2), ai(80), spent(2, 20), seconds(150)),
            (tasks[1].id, Some(2), ai(0), refused, seconds(150)),
            (tasks[3].id, Some(2), ai(80), spent(4, 0), seconds(150)),
        ]
    );
}

#[test]
fn who_does_not_exist_is_refused_and_what_no_organization_could_pay_is_not_logged() {
    let nobody = OrganizationId::new(Uuid::from_u128(9));
    let unknown = Request::Consume(Consume { action: ActionType::new("nothing").unwrap(), ..consumed(1) });
    let tasks = [task_of(nobody, 0, consume(1), None), task_of(ONE, 1, unknown, None)];
    let (verdicts, effects) = run(facts(), &tasks);
    assert_eq!(all_told(&verdicts), ["unknown_organization", "unknown_action"]);
    assert!(effects.consumptions.is_empty() && effects.accounts.is_empty(), "{effects:?}");
}

fn consumed(wanted: i64) -> Consume {
    let Request::Consume(request) = consume(wanted) else { unreachable!() };
    request
}

#[test]
fn a_key_executes_one_request_once_for_each_organization() {
    let tasks = [
        task_of(ONE, 0, consume(1), Some("key")),
        task_of(ONE, 1, consume(1), Some("key")),
        task_of(ONE, 2, consume(2), Some("key")),
        task_of(ONE, 3, consume(1), Some("other")),
        task_of(OTHER, 4, Request::Grant(grant(7)), Some("key")),
        task_of(OTHER, 5, Request::Grant(grant(7)), Some("key")),
        task_of(ONE, 6, consume(1), None),
    ];
    let (verdicts, effects) = run(facts(), &tasks);
    let expected = [
        "spent 2",
        "spent 2, replayed",
        "idempotency_mismatch",
        "spent 2",
        "lot of 7",
        "lot of 7, replayed",
        "spent 2",
    ];
    assert_eq!(all_told(&verdicts), expected);
    assert_eq!(effects.consumptions.len(), 3);
    let bound = |key: &NewKey| (key.organization_id, key.reference, key.operation, key.reference_at);
    assert_eq!(
        effects.keys.iter().map(bound).collect::<Vec<_>>(),
        [
            (ONE, tasks[0].id, "consume", seconds(150)),
            (ONE, tasks[3].id, "consume", seconds(150)),
            (OTHER, tasks[4].id, "grant", seconds(150)),
        ]
    );
    assert_eq!(effects.keys[0].response, None, "it is rebuilt from its row");
    let response = effects.keys[2].response.as_deref().unwrap();
    let Ok(Reply::Grant(kept)) = serde_json::from_str(response) else { panic!("{response}") };
    assert_eq!(kept.lot.granted, ai(7));
}

#[test]
fn a_refusal_does_not_bind_its_key() {
    let tasks = [
        task_of(OTHER, 0, consume(1), Some("key")),
        task_of(OTHER, 1, Request::Grant(grant(7)), None),
        task_of(OTHER, 2, consume(1), Some("key")),
    ];
    let (verdicts, effects) = run(facts(), &tasks);
    assert_eq!(all_told(&verdicts), ["insufficient_credits", "lot of 7", "spent 2"]);
    assert_eq!(effects.keys.len(), 1);
}

#[test]
fn a_key_whose_answer_is_no_longer_kept_is_refused() {
    let tasks = [task_of(ONE, 0, consume(1), Some("key")), task_of(ONE, 1, consume(2), Some("key"))];
    let binding = tasks[0].binding.unwrap();
    let bound = BoundKey { fingerprint: binding.fingerprint, reply: None };
    let keys = HashMap::from([((ONE, binding.key.id()), bound)]);
    let (verdicts, effects) = run(Facts { keys, ..facts() }, &tasks);
    assert_eq!(all_told(&verdicts), ["beyond_retention", "idempotency_mismatch"]);
    assert!(effects.keys.is_empty() && effects.consumptions.is_empty(), "{effects:?}");
}

#[test]
fn a_book_that_makes_no_sense_fails_the_whole_batch() {
    let without_prices = Facts { prices: HashMap::new(), ..facts_with_a_hold() };
    let tasks = tasks([Request::Grant(grant(1)), capture(None)]);
    let failed = decide(without_prices, &tasks.iter().collect::<Vec<_>>());
    assert!(matches!(failed, Err(StoreError::Internal(_))), "{failed:?}");
}

#[test]
fn what_comes_after_more_than_a_transaction_should_book_is_left_to_the_next() {
    // A day ends in one movement and begins with another.
    let days = i64::try_from(limits::BOOKED_MAX / 2).unwrap();
    for (days, decided) in [(days - 2, 4), (days, 1)] {
        let clock = seconds(days * 86_400);
        let facts = Facts { clock, ..facts_with_a_subscription() };
        let tasks = [
            task_of(ONE, 0, Request::Settle, None),
            task_of(OTHER, 1, consume(1), None),
            task_of(ONE, 2, consume(1), None),
            task_of(ONE, 3, consume(1), None),
        ];
        let (verdicts, effects) = run(facts, &tasks);
        let told = ["settled", "insufficient_credits", "spent 2", "spent 2"];
        assert_eq!(all_told(&verdicts), told[..decided], "{days} days");
        assert_eq!(effects.movements.len(), 2 * usize::try_from(days).unwrap(), "{days} days");
    }
}

#[test]
fn what_is_as_it_was_is_not_written_again() {
    let (verdict, effects) = run_one(facts(), Request::Settle);
    assert_eq!(told(&verdict), "settled");
    assert!(effects.accounts.is_empty(), "{:?}", effects.accounts);
    let (_, effects) = run_one(facts_with_a_subscription(), Request::Grant(grant(5)));
    assert_eq!(effects.accounts.len(), 1);
    assert!(effects.subscriptions.is_empty(), "{:?}", effects.subscriptions);
    assert!(effects.changed_lots.is_empty(), "{:?}", effects.changed_lots);
    let new: Vec<_> = effects.new_grants.iter().map(|(owner, grant)| (*owner, grant.reference.as_deref())).collect();
    assert_eq!(new, [(ONE, Some("invoice of 5"))]);
}

#[test]
fn a_hold_and_its_draws_are_new_once_and_then_changed() {
    let (verdict, effects) = run_one(facts(), Request::Hold(hold(10)));
    assert_eq!(told(&verdict), "hold open");
    assert_eq!((effects.new_holds.len(), effects.changed_holds.len()), (1, 0));
    assert_eq!((effects.new_draws.len(), effects.changed_draws.len()), (1, 0));
    assert_eq!((effects.new_grants.len(), effects.changed_lots.len()), (0, 1));
    let (verdict, effects) = run_one(facts_with_a_hold(), Request::Release { hold_id: HOLD });
    assert_eq!(told(&verdict), "hold released");
    assert_eq!((effects.new_holds.len(), effects.changed_holds.len()), (0, 1));
    assert_eq!((effects.new_draws.len(), effects.changed_draws.len()), (0, 1));
    assert_eq!((effects.new_grants.len(), effects.changed_lots.len()), (0, 1));
    assert_eq!(effects.movements.iter().map(|(_, it)| it.kind).collect::<Vec<_>>(), [MovementKind::Release]);
}

#[test]
fn a_hold_is_captured_at_the_price_of_its_day() {
    let (verdict, effects) = run_one(facts_with_a_hold(), capture(Some(quantity(4))));
    assert_eq!(told(&verdict), "spent 4");
    let [row] = &effects.consumptions[..] else { panic!("{:?}", effects.consumptions) };
    assert_eq!((row.hold_id, row.price_version, row.request.quantity), (Some(HOLD), Some(1), quantity(4)));
    let (verdict, effects) = run_one(facts_with_a_hold(), capture(None));
    assert_eq!(told(&verdict), "spent 10");
    assert_eq!(effects.consumptions[0].request.quantity, quantity(10));
    let (verdict, effects) = run_one(facts_with_a_hold(), capture(Some(quantity(500))));
    assert_eq!(told(&verdict), "insufficient_credits");
    assert_eq!(effects.consumptions[0].consumed, ai(0));
    assert_eq!(told(&run_one(facts(), capture(None)).0), "unknown_hold");
}

#[test]
fn a_hold_can_be_made_to_last_longer() {
    let longer = Request::Extend { hold_id: HOLD, ttl_seconds: 7_200 };
    let (verdict, effects) = run_one(facts_with_a_hold(), longer);
    assert_eq!(told(&verdict), "hold open");
    assert_eq!(effects.changed_holds[0].1.expires_at, seconds(150 + 7_200));
}

#[test]
fn what_is_corrected_or_taken_back_is_answered_with_what_is_left() {
    let change = Delta::between(ai(0), ai(3));
    let (verdict, effects) = run_one(facts(), Request::Adjust { change, reason: "a gift".to_owned() });
    assert_eq!(told(&verdict), "now 103");
    assert_eq!(effects.new_grants.len(), 1);
    let (verdict, effects) = run_one(facts(), Request::Void { grant_id: LOT });
    let Ok(Answer { value: Reply::Grant(voided), .. }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(voided.reference.as_deref(), Some("the first"));
    assert_eq!(effects.accounts[0].available, ai(0));
    assert_eq!(effects.changed_lots.len(), 1);
}

#[test]
fn only_what_was_spent_and_is_still_there_is_given_back() {
    let spent = Refundable { sequence: 2, price: price(2), quantity: quantity(2), refunded: 0 };
    let found = |found| {
        let refundables = HashMap::from([((ONE, SPENT), found)]);
        let facts = facts_after(|book| {
            book.account.spend(ai(4), seconds(10)).unwrap();
        });
        run_one(Facts { refundables, ..facts }, refund(SPENT))
    };
    let (verdict, effects) = found(Found::Spent(spent));
    assert_eq!(told(&verdict), "refund of 4");
    assert_eq!(effects.refunds[0].1.id, RefundId::new(Uuid::from_u128(100)));
    assert_eq!(effects.accounts[0].available, ai(100));
    assert_eq!(told(&found(Found::Refused).0), "over_refund");
    assert_eq!(told(&found(Found::BeyondRetention).0), "beyond_retention");
    assert_eq!(told(&run_one(facts(), refund(SPENT)).0), "unknown_consumption");
}

#[test]
fn a_request_for_credits_is_answered_once() {
    let asked = TopUp {
        id: TOP_UP,
        credit_type: CreditType::Ai,
        amount: Amount::new(5).unwrap(),
        state: TopUpState::Requested,
        requested_at: seconds(100),
        expires_at: seconds(200),
        granted: None,
    };
    let answer = || Request::Grant(NewGrant { top_up_id: Some(TOP_UP), ..grant(5) });
    let facts = Facts { top_ups: HashMap::from([((ONE, TOP_UP), asked)]), ..facts() };
    let (verdicts, effects) = run(facts, &tasks([answer(), answer()]));
    assert_eq!(all_told(&verdicts), ["lot of 5", "top_up_granted"]);
    let [(ONE, answered)] = &effects.top_ups[..] else { panic!("{:?}", effects.top_ups) };
    assert_eq!(answered.granted.map(|(id, _)| id.uuid()), Some(Uuid::from_u128(100)));
}

#[test]
fn the_anchor_of_a_subscription_cannot_be_moved() {
    let told_of = |anchor| told(&run_one(facts_with_a_subscription(), subscribe(20, anchor)).0);
    assert_eq!(told_of(None), "subscribed true");
    assert_eq!(told_of(Some(seconds(0))), "subscribed true");
    assert_eq!(told_of(Some(seconds(1))), "invalid_request");
    let (verdict, effects) = run_one(facts(), subscribe(20, Some(seconds(100))));
    let Ok(Answer { value: Reply::Subscription(Some(new)), .. }) = verdict else { panic!("{verdict:?}") };
    assert_eq!((new.anchor, effects.subscriptions.len()), (seconds(100), 1));
    let (_, effects) = run_one(facts_with_a_subscription(), Request::Unsubscribe);
    assert!(matches!(&effects.subscriptions[..], [(ONE, None, _)]), "{:?}", effects.subscriptions);
}

#[test]
fn who_is_closed_receives_nothing_and_is_settled_all_the_same() {
    let told_of = |request| told(&run_one(facts_of_a(OrganizationStatus::Closed), request).0);
    let closed = [Request::Grant(grant(1)), Request::Void { grant_id: LOT }, subscribe(1, None), capture(None)];
    for request in closed {
        assert_eq!(told_of(request), "organization_closed");
    }
    assert_eq!(told_of(Request::Settle), "settled");
    assert_eq!(told_of(Request::Hold(hold(1))), "organization_closed");
    assert_eq!(told(&run_one(facts_of_a(OrganizationStatus::Frozen), Request::Grant(grant(1))).0), "lot of 1");
}

#[test]
fn a_subscription_ends_when_its_organization_is_closed_and_not_when_it_is_frozen() {
    let (verdict, effects) = run_one(facts_with_a_subscription(), Request::SetStatus(OrganizationStatus::Frozen));
    assert_eq!(told(&verdict), "frozen");
    assert_eq!(effects.statuses, [(ONE, OrganizationStatus::Frozen, seconds(150))]);
    assert!(effects.subscriptions.is_empty(), "{:?}", effects.subscriptions);
    let operations = |effects: &Effects| effects.changes.iter().map(|change| change.operation).collect::<Vec<_>>();
    assert_eq!(operations(&effects), [AuditOperation::UpdateOrganization]);
    let (verdict, effects) = run_one(facts_with_a_subscription(), Request::SetStatus(OrganizationStatus::Closed));
    assert_eq!(told(&verdict), "closed");
    assert!(matches!(&effects.subscriptions[..], [(ONE, None, _)]), "{:?}", effects.subscriptions);
    assert_eq!(operations(&effects), [AuditOperation::DeleteSubscription, AuditOperation::UpdateOrganization]);
}

#[test]
fn the_books_of_those_are_read_who_are_due_or_asked_for_more_than_spending() {
    let needs = |organization_id, request, clock| {
        let task = task_of(organization_id, 0, request, None);
        let accounts = facts_with_a_hold().accounts;
        needs_pages(&[&task], &accounts, seconds(clock)).into_iter().collect::<BTreeSet<_>>()
    };
    let ends = 50 + 3_600;
    assert_eq!(needs(OTHER, consume(1), ends - 1), [].into());
    assert_eq!(needs(OTHER, consume(1), ends), [ONE].into());
    assert_eq!(needs(ONE, consume(1), ends), [ONE].into());
    assert_eq!(needs(OTHER, Request::Settle, ends - 1), [OTHER].into());
    assert_eq!(needs(OTHER, Request::Settle, ends), [ONE, OTHER].into());
    assert_eq!(needs(ONE, Request::SetStatus(OrganizationStatus::Frozen), 150), [].into());
    assert_eq!(needs(ONE, Request::SetStatus(OrganizationStatus::Closed), 150), [ONE].into());
}

#[test]
fn spending_is_told_only_of_those_who_did_nothing_but_spend() {
    let tasks = [
        task_of(ONE, 0, consume(1), None),
        task_of(ONE, 1, consume(70), None),
        task_of(ONE, 2, consume(2), None),
        task_of(OTHER, 3, Request::Grant(grant(7)), None),
        task_of(OTHER, 4, consume(1), None),
    ];
    let (_, effects) = run(facts(), &tasks);
    let [one, other] = &effects.accounts[..] else { panic!("{:?}", effects.accounts) };
    let expected = Spending { count: 2, sequence: 3, available: ai(94), at: seconds(150) };
    assert_eq!(effects.spending(one), Some(expected));
    assert_eq!(effects.spending(other), None);
}

#[test]
fn neither_a_lot_that_changed_nor_a_captured_hold_is_mere_spending() {
    let (_, mut effects) = run(facts(), &tasks([consume(1)]));
    let account = effects.accounts[0].clone();
    assert!(effects.spending(&account).is_some());
    effects.consumptions[0].hold_id = Some(HOLD);
    assert_eq!(effects.spending(&account), None);
    effects.consumptions[0].hold_id = None;
    let (_, pages, movements) = {
        let mut book = Book::new(Account::open(OTHER, seconds(0)), Pages::default());
        book.grant(LOT, &grant(1), seconds(0)).unwrap();
        book.into_parts()
    };
    effects.changed_lots = vec![(OTHER, pages.lots[0].clone())];
    effects.movements = vec![(OTHER, movements[0].clone())];
    assert!(effects.spending(&account).is_some(), "that was another's");
    effects.changed_lots = vec![(ONE, pages.lots[0].clone())];
    assert_eq!(effects.spending(&account), None);
    effects.changed_lots.clear();
    effects.movements = vec![(ONE, movements[0].clone())];
    assert_eq!(effects.spending(&account), None);
}
