//! What is not valid: it is refused with its status and a problem that says which field, and nothing has changed.
//!
//! That nothing has changed is asserted of every row of every table.

mod addresses;
mod bodies;
mod contract;

use serde_json::Value;
use tests::app::{Answer, Call, TestApp};
use tests::{Contents, ContentsReader};

/// A database that nothing may change.
struct Untouched {
    reader: ContentsReader,
    before: Contents,
}

impl Untouched {
    async fn new(app: &TestApp) -> Self {
        let reader = app.db().contents().await.unwrap();
        let before = reader.read().await.unwrap();
        Self { reader, before }
    }

    #[track_caller]
    fn assert_same(&self, now: &Contents, what: &str) {
        assert_eq!(now.differences(&self.before), Vec::<&str>::new(), "changed by {what}");
    }

    async fn assert(&self, what: &str) {
        self.assert_same(&self.reader.read().await.unwrap(), what);
    }
}

/// Sends a call that is not valid and asserts that it is refused as such: the body or one of its fields is named.
async fn assert_invalid(call: Call, what: &str) -> Answer {
    let answer = call.await;
    assert_eq!(answer.status, 400, "{what}: {answer}");
    let code = answer.json()["code"].clone();
    assert!(code == "invalid_request" || code == "malformed_body", "{what}: {answer}");
    answer
}

/// The field that a refusal names first.
fn field(answer: &Answer) -> Value {
    answer.json()["errors"][0]["field"].clone()
}
