use multicredit_domain::Credits;
use serde_json::{Value, json};

use super::*;

async fn answer(problem: Problem) -> (StatusCode, Value, Response) {
    let mut response = problem.into_answer("r-1");
    let body = response.take_body().into_vec().await.unwrap();
    (response.status(), serde_json::from_slice(&body).unwrap(), response)
}

#[tokio::test]
async fn a_shortfall_says_what_was_missing_and_what_would_have_been_affordable() {
    let shortfall = Shortfall {
        required: Credits::ZERO,
        available: Credits::ZERO,
        shortfall: Credits::ZERO,
        max_affordable_quantity: 7,
    };
    let (status, body, response) = answer(Refusal::InsufficientCredits(Box::new(shortfall)).into()).await;
    let zero = json!({ "ai": 0, "whatsapp": 0, "email": 0, "sms": 0 });
    assert_eq!(status, StatusCode::PAYMENT_REQUIRED);
    assert_eq!(response.content_type(), Some("application/problem+json"));
    assert_eq!(
        body,
        json!({
            "type": "/problems/insufficient_credits",
            "title": "Insufficient credits",
            "status": 402,
            "code": "insufficient_credits",
            "detail": "The balance does not cover the cost; nothing was deducted.",
            "request_id": "r-1",
            "required": zero, "available": zero, "shortfall": zero,
            "max_affordable_quantity": 7,
        })
    );
}

#[tokio::test]
async fn internal_text_is_kept_for_the_log() {
    for error in [StoreError::Internal("SELECT secret".to_owned()), StoreError::Unavailable("SELECT secret".to_owned())]
    {
        let problem = Problem::from(error);
        assert_eq!(problem.internal_text(), Some("SELECT secret"));
        let (_, body, _) = answer(problem).await;
        assert!(!body.to_string().contains("secret"), "{body}");
    }
}

#[tokio::test]
async fn an_unknown_outcome_names_the_consumption_to_look_up() {
    let id = ConsumptionId::new(uuid::Uuid::from_u128(7));
    let (status, body, response) = answer(StoreError::OutcomeUnknown { consumption_id: Some(id) }.into()).await;
    assert_eq!((status, &body["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("outcome_unknown")));
    assert_eq!(body["consumption_id"], json!(id.to_string()));
    assert_eq!(response.header("Retry-After"), Some("1"));
}

#[tokio::test]
async fn statuses_come_with_the_headers_that_they_ask_for() {
    let (_, _, response) = answer(Problem::new(Code::Unauthorized)).await;
    assert_eq!(response.header("WWW-Authenticate"), Some("Bearer"));
    for code in [Code::TooManyRequests, Code::Overloaded, Code::Unavailable] {
        let (_, _, response) = answer(Problem::new(code)).await;
        assert_eq!(response.header("Retry-After"), Some("1"), "{code:?}");
    }
    let allow = HeaderValue::from_static("GET, HEAD");
    let (status, _, response) = answer(Problem::method_not_allowed(allow)).await;
    assert_eq!((status, response.header("Allow")), (StatusCode::METHOD_NOT_ALLOWED, Some("GET, HEAD")));
}

#[test]
fn refusals_keep_their_codes() {
    let refusals = [
        Refusal::OrganizationFrozen,
        Refusal::OrganizationClosed,
        Refusal::UnknownOrganization,
        Refusal::UnknownAction,
        Refusal::UnknownGrant,
        Refusal::UnknownConsumption,
        Refusal::UnknownHold,
        Refusal::UnknownPlan,
        Refusal::UnknownSubscription,
        Refusal::UnknownTopUp,
        Refusal::TopUpGranted,
        Refusal::HoldFinalized,
        Refusal::HoldExpired,
        Refusal::OverRefund,
        Refusal::LotExpired,
        Refusal::OutOfRange,
        Refusal::IdempotencyMismatch,
        Refusal::InvalidField { field: "f", message: "m" },
    ];
    for refusal in refusals {
        let code = refusal.code();
        assert_eq!(Problem::from(refusal).code().as_str(), code);
    }
}

#[test]
fn the_documentation_lists_every_code_with_its_status() {
    let documentation = include_str!("../../../../docs/API.md");
    let documented: Vec<(u16, &str)> = documentation
        .lines()
        .filter_map(|line| {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let code = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((cells.next()?.parse().ok()?, code))
        })
        .collect();
    let ours: Vec<(u16, &str)> = Code::ALL.iter().map(|code| (code.status().as_u16(), code.as_str())).collect();
    assert_eq!(documented, ours, "the table of docs/API.md and problem/code.rs list the same codes in the same order");
}

#[test]
fn only_plain_short_names_are_said_back() {
    assert_eq!(presentable("quantity_2"), Some("quantity_2"));
    for bad in ["", "<script>", "a b", "ü", &"x".repeat(41)] {
        assert_eq!(presentable(bad), None, "{bad}");
    }
}
