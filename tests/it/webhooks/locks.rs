//! Whoever changes the cursors of several pairs locks them in one order: a server that writes down what was delivered and
//! somebody who disables the endpoint do not wait for each other for ever. PostgreSQL alone; SQLite locks no rows.

use std::time::Duration;

use multicredit_store::{Progress, WebhookRecord};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, TransactionTrait as _};
use serde_json::json;
use tests::app::{TestApp, served};
use tests::receiver::Receiver;
use tests::{Engine, run};
use tokio::time::{sleep, timeout};

use super::{hook, id_of};

const ORGANIZATIONS: usize = 3;

/// Less than what servers wait for a lock.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Whether nobody has the pair of an organization locked.
async fn is_free(connection: &DatabaseConnection, organization: &str) -> bool {
    let transaction = connection.begin().await.unwrap();
    let sql = format!("SELECT 1 FROM webhook_cursors WHERE organization_id = '{organization}' FOR UPDATE NOWAIT");
    let is_free = transaction.execute_unprepared(&sql).await.is_ok();
    transaction.rollback().await.unwrap();
    is_free
}

/// Asserts that what changes the pairs of all organizations has locked that of the first while it waits for the last.
async fn assert_in_order<T>(app: &TestApp, organizations: &[String], change: impl Future<Output = T>) -> T {
    let (connection, other) = (app.db().connect().await.unwrap(), app.db().connect().await.unwrap());
    let (first, last) = (&organizations[0], &organizations[organizations.len() - 1]);
    // The first comes last in the table, so that nobody takes them in order by chance.
    let moved = format!(
        "WITH moved AS (DELETE FROM webhook_cursors WHERE organization_id = '{first}' RETURNING *) \
         INSERT INTO webhook_cursors SELECT * FROM moved"
    );
    connection.execute_unprepared(&moved).await.unwrap();
    let holder = connection.begin().await.unwrap();
    let held = format!("SELECT 1 FROM webhook_cursors WHERE organization_id = '{last}' FOR UPDATE");
    holder.execute_unprepared(&held).await.unwrap();
    let watching = async {
        let is_locked = timeout(PATIENCE, async {
            while is_free(&other, first).await {
                sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(is_locked.await.is_ok(), "the last was waited for without the first");
        holder.rollback().await.unwrap();
    };
    tokio::join!(change, watching).0
}

#[test]
fn cursors_are_locked_in_the_order_of_their_organizations() {
    run(
        Engine::Postgres,
        served(async |app| {
            let receiver = Receiver::start().await;
            let hook = hook(app, &receiver, None, None).await;
            let mut organizations = Vec::new();
            for number in 0..ORGANIZATIONS {
                let made = app.organization(&format!("o{number}"), json!({})).await;
                app.grant(&made, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
                organizations.push(id_of(&made).uuid().to_string());
            }
            organizations.sort();
            app.store.complete_webhook_cursors().await.unwrap();
            let (mut pairs, _) = app.store.waiting_webhooks(None).await.unwrap();
            pairs.sort_by(|one, other| other.cmp(one));
            assert_eq!(pairs.len(), ORGANIZATIONS);
            let claims = app.store.claim_webhooks(&pairs).await.unwrap();
            let mut records: Vec<_> = claims
                .into_iter()
                .map(|claim| WebhookRecord { claim, delivery: None, progress: Progress::Release })
                .collect();
            records.sort_by_key(|record| std::cmp::Reverse(record.claim.organization_id));
            let written = assert_in_order(app, &organizations, app.store.record_webhooks(records)).await;
            assert_eq!(written.unwrap(), [true; ORGANIZATIONS]);

            let path = &hook.path;
            let disabled = app.admin.patch(path).json(json!({ "enabled": false })).into_future();
            assert_in_order(app, &organizations, disabled).await.expect(200);
            let deleted = app.admin.delete(path).into_future();
            assert_in_order(app, &organizations, deleted).await.expect(204);
        }),
    );
}
