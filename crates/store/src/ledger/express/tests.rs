use std::time::Duration;

use chrono::TimeDelta;
use multicredit_domain::{Amount, CreditType, IdempotencyKey, Quantity};
use sqlx::Arguments as _;

use super::postgres::{CALL, arguments};
use super::*;

const ONE: OrganizationId = OrganizationId::new(Uuid::from_u128(1));
const OTHER: OrganizationId = OrganizationId::new(Uuid::from_u128(2));
const HOUR: Duration = Duration::from_hours(1);

fn ai(value: i64) -> Credits {
    Credits::of(CreditType::Ai, Amount::new(value).unwrap())
}

fn action(name: &str) -> ActionType {
    ActionType::new(name).unwrap()
}

/// A price of 2, and one of 3 from an hour after the epoch on.
fn prices() -> Vec<Price> {
    let price = |version, costs, effective_at| {
        let unit_size = Quantity::new(1).unwrap();
        Price { version, costs: ai(costs), unit_size, active: true, effective_at, description: None }
    };
    vec![price(1, 2, Timestamp::UNIX_EPOCH - TimeDelta::hours(1)), price(2, 3, Timestamp::UNIX_EPOCH + HOUR)]
}

/// A board that was seen at the epoch.
fn board(name: &str) -> PriceBoard {
    PriceBoard::of(&Facts { prices: HashMap::from([(action(name), prices())]), ..Facts::default() })
}

fn consume(name: &str, quantity: i64) -> Request {
    let quantity = Quantity::new(quantity).unwrap();
    Request::Consume(Consume { action: action(name), quantity, occurred_at: None, metadata: None, actor: None })
}

fn task(organization_id: OrganizationId, id: u128, request: Request, key: Option<&str>) -> Task {
    let binding = key.map(|key| request.bind(IdempotencyKey::of_request(key).unwrap()).unwrap());
    Task { organization_id, id: Uuid::from_u128(100 + id), request, binding, author: None }
}

/// What goes by the express path, item by item: its place, its cost, and the cost so far.
fn asked(tasks: &[Task]) -> Vec<(OrganizationId, usize, Credits, Credits)> {
    let tasks = tasks.iter().collect::<Vec<_>>();
    let demand = demand(&tasks, &board("sms"));
    let items = demand.iter().flat_map(|(id, items)| items.iter().map(|it| (*id, it.index, it.cost, it.so_far)));
    items.collect()
}

fn id(key: &str) -> Uuid {
    IdempotencyKey::of_request(key).unwrap().id()
}

fn spent(organization_id: OrganizationId, id: u128, sequence: i64) -> Consumption {
    let Request::Consume(request) = consume("sms", 1) else { unreachable!() };
    Consumption {
        id: ConsumptionId::new(Uuid::from_u128(100 + id)),
        organization_id,
        request,
        hold_id: None,
        consumed: ai(2),
        price_version: Some(1),
        outcome: Outcome::Spent { sequence, available: ai(100 - sequence) },
        created_at: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test(start_paused = true)]
async fn a_board_knows_the_price_in_force_now_of_what_it_has_seen() {
    let empty = PriceBoard::default();
    assert!(empty.price(&action("sms")).is_none());
    let mut board = board("sms");
    assert!(board.price(&action("email")).is_none());
    assert_eq!(board.price(&action("sms")).map(|price| price.version), Some(1));
    tokio::time::advance(HOUR).await;
    assert_eq!(board.price(&action("sms")).map(|price| price.version), Some(2));
    // What another board has seen counts from when that was.
    board.learn(self::board("email"));
    let seen = ["sms", "email"].map(|name| board.price(&action(name)).map(|price| price.version));
    assert_eq!(seen, [Some(1), Some(1)]);
}

#[test]
fn keys_are_looked_for_where_one_is_known_and_for_a_while_after_one_was_met() {
    let key = |number: u128| (ONE, Uuid::from_u128(number));
    let mut recent = RecentKeys::default();
    assert!(!recent.screens([key(1)].into_iter()));
    recent.remember([key(1), key(2)].into_iter());
    assert!(recent.screens([key(3), key(2)].into_iter()));
    assert!(!recent.screens([key(3), (OTHER, Uuid::from_u128(1))].into_iter()));
    recent.met_a_known_one();
    for _ in 0..limits::SCREENED_CALLS {
        assert!(recent.screens([key(3)].into_iter()));
    }
    assert!(!recent.screens([key(3)].into_iter()));
}

#[test]
fn the_oldest_key_is_forgotten_first_and_one_that_comes_again_takes_no_room() {
    let key = |number: usize| (ONE, Uuid::from_u128(number as u128));
    let mut recent = RecentKeys::default();
    let knows = |recent: &mut RecentKeys, number| recent.screens([key(number)].into_iter());
    recent.remember((0..limits::RECENT_KEYS_MAX).map(key));
    recent.remember((0..limits::RECENT_KEYS_MAX).map(key));
    assert!(knows(&mut recent, 0));
    recent.remember([key(limits::RECENT_KEYS_MAX)].into_iter());
    assert!(!knows(&mut recent, 0));
    assert!(knows(&mut recent, 1));
    assert!(knows(&mut recent, limits::RECENT_KEYS_MAX));
}

#[test]
fn what_each_organization_is_asked_for_adds_up_in_the_order_of_the_batch() {
    let tasks = [
        task(OTHER, 0, consume("sms", 1), None),
        task(ONE, 1, consume("sms", 2), Some("key")),
        task(OTHER, 2, consume("sms", 3), Some("key")),
        task(ONE, 3, consume("sms", 4), Some("another")),
    ];
    let expected =
        [(ONE, 1, ai(4), ai(4)), (ONE, 3, ai(8), ai(12)), (OTHER, 0, ai(2), ai(2)), (OTHER, 2, ai(6), ai(8))];
    assert_eq!(asked(&tasks), expected);
    let tasks = tasks.iter().collect::<Vec<_>>();
    let bound = [(ONE, id("key")), (ONE, id("another")), (OTHER, id("key"))];
    assert_eq!(keys(&demand(&tasks, &board("sms"))).collect::<Vec<_>>(), bound);
}

#[test]
fn who_is_asked_for_anything_out_of_the_ordinary_is_left_out_whole() {
    let largest = multicredit_domain::amount::MAX / 2;
    let out_of_the_ordinary = [
        (Request::Settle, None),
        (consume("email", 1), None),
        (consume("sms", 2), Some("key")),
        (consume("sms", largest), None),
        (consume("sms", multicredit_domain::amount::MAX), None),
    ];
    for (request, key) in out_of_the_ordinary {
        let tasks = [
            task(ONE, 0, consume("sms", 2), Some("key")),
            task(OTHER, 1, consume("sms", 1), None),
            task(ONE, 2, request, key),
            task(ONE, 3, consume("sms", 1), None),
        ];
        assert_eq!(asked(&tasks), [(OTHER, 1, ai(2), ai(2))], "{:?}", tasks[2]);
    }
}

#[test]
fn the_call_has_a_place_for_each_argument() {
    let task = task(ONE, 0, consume("sms", 2), None);
    let demand = demand(&[&task], &board("sms"));
    let places = CALL.matches('$').count();
    assert_eq!(arguments(&demand, None, true).unwrap().len(), places);
    let explained = explainable_call(ONE.uuid(), task.id, &action("sms"), &prices()[0]);
    assert_eq!(explained.matches("ARRAY[").count() + 3, places, "{explained}");
    assert_eq!(CALL.matches(&format!("${places})")).count(), 1, "{}", *CALL);
}

#[test]
fn what_is_found_answers_its_own_item_and_what_is_not_stays_open() {
    let tasks = [0, 1, 2].map(|id| task(if id == 0 { OTHER } else { ONE }, id, consume("sms", 1), None));
    let tasks = tasks.iter().collect::<Vec<_>>();
    let demand = demand(&tasks, &board("sms"));
    let mut verdicts = vec![None, None, None];
    answer(&mut verdicts, &demand, spent(ONE, 2, 7));
    answer(&mut verdicts, &demand, spent(OrganizationId::new(Uuid::nil()), 1, 7));
    let [None, None, Some(Ok(Answer { value: Reply::Consumption(found), replayed: false }))] = &verdicts[..] else {
        panic!("{verdicts:?}")
    };
    assert_eq!(found.id.uuid(), tasks[2].id);
    leave_unknown(&demand, &mut verdicts);
    for verdict in verdicts {
        assert!(matches!(verdict, Some(Err(StoreError::OutcomeUnknown { consumption_id: None }))), "{verdict:?}");
    }
}

#[test]
fn what_an_organization_has_spent_is_told_with_the_last_of_it() {
    let rows = [(0, spent(ONE, 0, 4)), (3, spent(ONE, 3, 5)), (1, spent(OTHER, 1, 9))];
    let told = |count, sequence| Spending { count, sequence, available: ai(100 - sequence), at: Timestamp::UNIX_EPOCH };
    assert_eq!(spendings(&rows).collect::<Vec<_>>(), [(ONE, told(2, 5)), (OTHER, told(1, 9))]);
}
