//! Many consumptions in one request: each on its own, each with its own result, in order.

use multicredit_store::ConsumeItem;
use poem::http::StatusCode;
use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Serialize;

use super::consume::SpentBody;
use crate::auth::Auth;
use crate::middleware;
use crate::problem::{Problem, ProblemBody};

/// What became of one item.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "ItemResult", skip_serializing_if_is_none)]
struct ItemResult {
    /// The item's place in the request, from 0.
    index: u32,
    /// The status that the item would have been answered with alone.
    status: u16,
    /// Where it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumption: Option<SpentBody>,
    /// Where it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
    /// `true` where the consumption is an earlier one with the same key.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed: Option<bool>,
}

/// What became of each item, in order.
#[derive(Debug, Serialize, Object)]
#[oai(example)]
pub struct Results {
    results: Vec<ItemResult>,
}

impl Example for Results {
    fn example() -> Self {
        let spent = ItemResult {
            index: 0,
            status: StatusCode::CREATED.as_u16(),
            consumption: Some(SpentBody::example()),
            problem: None,
            replayed: None,
        };
        let refused = ItemResult {
            index: 1,
            status: StatusCode::PAYMENT_REQUIRED.as_u16(),
            consumption: None,
            problem: Some(ProblemBody::example()),
            replayed: None,
        };
        Self { results: vec![spent, refused] }
    }
}

/// Consumes what can be consumed; what was refused before it came here keeps its place.
pub async fn consume<R>(auth: &Auth<R>, items: Vec<Result<ConsumeItem, Problem>>) -> Results {
    let mut accepted = Vec::with_capacity(items.len());
    let refused: Vec<Option<Problem>> =
        items.into_iter().map(|item| item.map(|item| accepted.push(item)).err()).collect();
    let mut answers = auth.store().consume_many(accepted).await.into_iter();
    let request_id = auth.context().request_id().as_str();
    let results = refused.into_iter().zip(0..).map(|(refused, index)| {
        let outcome = match refused {
            Some(problem) => Err(problem),
            None => match answers.next() {
                Some(Ok(answer)) => SpentBody::try_from(answer.value).map(|spent| (spent, answer.replayed)),
                Some(Err(error)) => Err(error.into()),
                None => Err(Problem::internal("fewer answers than items")),
            },
        };
        show(index, outcome, request_id)
    });
    Results { results: results.collect() }
}

fn show(index: u32, outcome: Result<(SpentBody, bool), Problem>, request_id: &str) -> ItemResult {
    match outcome {
        Ok((consumption, replayed)) => ItemResult {
            index,
            status: StatusCode::CREATED.as_u16(),
            consumption: Some(consumption),
            problem: None,
            replayed: replayed.then_some(true),
        },
        Err(problem) => {
            middleware::failed(&problem);
            ItemResult {
                index,
                status: problem.status().as_u16(),
                consumption: None,
                problem: Some(problem.into_body(request_id)),
                replayed: None,
            }
        }
    }
}
