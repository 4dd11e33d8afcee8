//! `consume_credits_rpc` is the API's consume call: the same rule, the same rows, the same answer (PostgreSQL).
//!
//! That the function and the ledger together agree with a naive ledger is tested in `model`, by the sequences there with
//! some of the spending sent to the function. Here it is held against the ledger row by row ([`twins`]), and the parts of
//! settlement that have to be said a second time in SQL are held against the domain's: the calendar and the ids of
//! periods ([`calendar`]).

mod calendar;
mod twins;

use futures_util::future::{join, join_all};
use multicredit_domain::{CreditType, OrganizationStatus, Refusal};
use multicredit_store::{ConsumeItem, ConsumptionFilter, OrganizationUpdate, PageRequest, Store, StoreError};
use serde_json::{Value, json};
use tests::fixtures::{ai, credits, organization, request, store};
use tests::rpc::Rpc;
use tests::{Engine, TestDb};
use uuid::Uuid;

/// How many callers there are of each kind where many call at once.
const CALLERS: usize = 20;

/// How often each calls.
const CALLS: usize = 10;

fn on_postgres(test: impl AsyncFnOnce(TestDb, Store, Rpc)) {
    tests::run(Engine::Postgres, async |db: TestDb| {
        let store = store(&db).await;
        let rpc = Rpc::connect(&db).await.unwrap();
        test(db, store, rpc).await;
    });
}

/// How many rows the log has of an organization, by success.
async fn logged(store: &Store, id: multicredit_domain::OrganizationId) -> (usize, usize) {
    let all = ConsumptionFilter::default();
    let items = store.consumptions(id, all, PageRequest::first(100_000)).await.unwrap().items;
    let spent = items.iter().filter(|item| matches!(item.outcome, multicredit_domain::consume::Outcome::Spent { .. }));
    let spent = spent.count();
    (spent, items.len() - spent)
}

#[test]
fn a_call_spends_and_leaves_one_row_that_the_api_shows() {
    on_postgres(async |_, store, rpc| {
        let id = organization(&store, "acme", credits([(CreditType::Ai, 10), (CreditType::Whatsapp, 5)])).await;
        let answer = rpc.consume(id, "whatsapp_ai_reply", 3).await.unwrap();
        let shown = &store.consumptions(id, ConsumptionFilter::default(), PageRequest::first(10)).await.unwrap().items;
        let [row] = &shown[..] else { panic!("one call makes one row, and not {shown:?}") };
        let expected = json!({
            "success": true,
            "consumption_id": row.id,
            "consumed": { "ai": 3, "whatsapp": 3, "email": 0, "sms": 0 },
            "available": { "ai": 7, "whatsapp": 2, "email": 0, "sms": 0 },
            "sequence": 2,
            "created_at": row.created_at,
        });
        assert_eq!(answer, expected);
        assert_eq!(row.id.uuid().get_version_num(), 7);
        let called_at = store.now().await.unwrap().timestamp();
        let (seconds, _) = row.id.uuid().get_timestamp().unwrap().to_unix();
        assert!(seconds.abs_diff(u64::try_from(called_at).unwrap()) < 60, "the id has the time of the call");
        assert!(store.verify().await.unwrap().passed());
    });
}

#[test]
fn a_refusal_says_what_was_missing_and_leaves_a_row_where_the_api_does() {
    on_postgres(async |_, store, rpc| {
        let id = organization(&store, "acme", ai(10)).await;
        let refused = rpc.consume(id, "ai_image", 3).await.unwrap();
        let vector = |amount: i64| json!({ "ai": amount, "whatsapp": 0, "email": 0, "sms": 0 });
        let expected = json!({
            "success": false,
            "error": "insufficient_credits",
            "required": vector(15),
            "available": vector(10),
            "shortfall": vector(5),
            "max_affordable_quantity": 2,
        });
        assert_eq!(refused, expected);
        assert_eq!(logged(&store, id).await, (0, 1));
        for (status, code, rows) in [
            (OrganizationStatus::Frozen, "organization_frozen", 2),
            (OrganizationStatus::Closed, "organization_closed", 2),
        ] {
            let update = OrganizationUpdate { status: Some(status), ..OrganizationUpdate::default() };
            store.update_organization(id, update).await.unwrap();
            let refused = rpc.consume(id, "ai_chat", 1).await.unwrap();
            assert_eq!(refused, json!({ "success": false, "error": code }));
            assert_eq!(logged(&store, id).await, (0, rows), "{code}");
        }
        assert!(store.verify().await.unwrap().passed());
    });
}

#[test]
fn arguments_that_make_no_sense_are_refused_without_a_row() {
    on_postgres(async |_, store, rpc| {
        let id = organization(&store, "acme", ai(10)).await;
        let refused = |code: &str| json!({ "success": false, "error": code });
        let long = "x".repeat(101);
        for (action, quantity, code) in [
            ("ai_chat", 0, "invalid_request"),
            ("ai_chat", -1, "invalid_request"),
            ("ai_chat", 9_007_199_254_740_992, "invalid_request"),
            ("ai_chat", i64::MAX, "invalid_request"),
            ("ai_image", 9_007_199_254_740_991, "out_of_range"),
            ("", 1, "invalid_request"),
            ("ai chat", 1, "invalid_request"),
            ("ai_chat\n", 1, "invalid_request"),
            ("ümlaut", 1, "invalid_request"),
            (long.as_str(), 1, "invalid_request"),
            ("nothing", 1, "unknown_action"),
        ] {
            assert_eq!(rpc.consume(id, action, quantity).await.unwrap(), refused(code), "{action:?} {quantity}");
        }
        let nobody = multicredit_domain::OrganizationId::new(Uuid::nil());
        assert_eq!(rpc.consume(nobody, "ai_chat", 1).await.unwrap(), refused("unknown_organization"));
        let nulls = ["NULL, 'ai_chat', 1", "$1, NULL, 1", "$1, 'ai_chat', NULL"];
        for arguments in nulls {
            let sql = format!("SELECT consume_credits_rpc({arguments}) WHERE $1::uuid IS NOT NULL");
            let answer: Value = rpc.answer(&sql, [id.uuid().into()]).await.unwrap();
            assert_eq!(answer, refused("invalid_request"), "{arguments}");
        }
        assert_eq!(logged(&store, id).await, (0, 0));
    });
}

/// How many of the answers are successes; every other one must be a want of credits.
fn count_spent<'a>(
    by_rpc: impl IntoIterator<Item = &'a Value>,
    by_store: impl IntoIterator<Item = &'a Result<(), StoreError>>,
) -> (usize, usize) {
    let is_spent = |answer: &Value| {
        assert!(answer["success"] == true || answer["error"] == "insufficient_credits", "{answer}");
        answer["success"] == true
    };
    let spent = |answer: &Result<(), StoreError>| {
        assert!(matches!(answer, Ok(()) | Err(StoreError::Refused(Refusal::InsufficientCredits(_)))), "{answer:?}");
        answer.is_ok()
    };
    let by_rpc = by_rpc.into_iter().filter(|answer| is_spent(answer)).count();
    (by_rpc, by_store.into_iter().filter(|answer| spent(answer)).count())
}

#[test]
fn callers_and_servers_that_race_for_one_balance_spend_exactly_that() {
    on_postgres(async |db, store, first| {
        const FUNDS: usize = 300;
        let rpcs = [first, Rpc::connect(&db).await.unwrap()];
        let id = organization(&store, "acme", ai(i64::try_from(FUNDS).unwrap())).await;
        let by_rpc = join_all((0..CALLERS).map(async |caller| {
            let mut answers = Vec::new();
            for _ in 0..CALLS {
                answers.push(rpcs[caller % 2].consume(id, "ai_chat", 1).await.unwrap());
            }
            answers
        }));
        let by_store = join_all((0..CALLERS).map(async |_| {
            let mut answers = Vec::new();
            for _ in 0..CALLS {
                answers.push(store.consume(id, request("ai_chat", 1), None).await.map(drop));
            }
            answers
        }));
        let (by_rpc, by_store) = join(by_rpc, by_store).await;
        let (by_rpc, by_store) = count_spent(by_rpc.iter().flatten(), by_store.iter().flatten());
        assert_eq!(by_rpc + by_store, FUNDS);
        assert!(by_rpc > 0 && by_store > 0, "both took part: {by_rpc} and {by_store}");
        assert_eq!(logged(&store, id).await, (FUNDS, 2 * CALLERS * CALLS - FUNDS));
        assert_eq!(store.balance(id).await.unwrap().balance.available, ai(0));
        assert!(store.verify().await.unwrap().passed());
    });
}

#[test]
fn callers_and_servers_that_share_organizations_never_wait_for_each_other_in_a_circle() {
    on_postgres(async |_, store, rpc| {
        const ORGANIZATIONS: usize = 8;
        let mut ids = Vec::new();
        for index in 0..ORGANIZATIONS {
            ids.push(organization(&store, &format!("shared-{index}"), ai(100)).await);
        }
        let by_rpc = join_all(
            (0..CALLERS * CALLS).map(async |n| rpc.consume(ids[n * 7 % ORGANIZATIONS], "ai_chat", 1).await.unwrap()),
        );
        let by_store = join_all((0..CALLERS).map(async |n| {
            let id = |i: usize| ids[(n + i * 5) % ORGANIZATIONS];
            let item = |i| ConsumeItem { organization_id: id(i), request: request("ai_chat", 1), key: None };
            store.consume_many((0..2 * ORGANIZATIONS).map(item).collect()).await
        }));
        let (by_rpc, by_store) = join(by_rpc, by_store).await;
        let by_store: Vec<_> = by_store.into_iter().flatten().map(|answer| answer.map(drop)).collect();
        let (by_rpc, by_store) = count_spent(&by_rpc, &by_store);
        let mut left = 0;
        for id in ids {
            left += usize::try_from(store.balance(id).await.unwrap().balance.available[CreditType::Ai].get()).unwrap();
        }
        assert_eq!(by_rpc + by_store + left, 100 * ORGANIZATIONS);
        assert!(store.verify().await.unwrap().passed());
    });
}
