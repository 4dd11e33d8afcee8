//! The critical queries: those that callers wait for, with an index that each must find.

use multicredit_domain::{CreditType, Timestamp};
use uuid::Uuid;

use crate::config::Engine;

/// A query whose plan and time a report shows.
pub(super) struct Critical {
    pub(super) name: &'static str,
    pub(super) purpose: &'static str,
    pub(super) sql: String,
    /// Whether it spends, and so is run on a scratch organization.
    pub(super) spends: bool,
}

/// Those that only read, of that organization.
pub(super) fn reads(engine: Engine, organization: Uuid, now: Timestamp) -> Vec<Critical> {
    let id = uuid(engine, organization);
    let nothing = uuid(engine, Uuid::nil());
    let digest = match engine {
        Engine::Postgres => format!("'\\x{}'::bytea", "00".repeat(32)),
        Engine::Sqlite => format!("X'{}'", "00".repeat(32)),
    };
    let types = |separator: &str, f: &dyn Fn(CreditType) -> String| CreditType::ALL.map(f).join(separator);
    let consumed = types(", ", &|it| format!("{it}_credits_consumed"));
    let any = types(" OR ", &|it| format!("{it}_credits_consumed > 0"));
    let largest = types(", ", &|it| format!("{it}_credits_consumed DESC"));
    let read = |name, purpose, sql: String| Critical { name, purpose, sql, spends: false };
    vec![
        read(
            "organization credits",
            "the balance of an organization",
            format!(
                "SELECT o.name, oc.ai_credits_available, oc.whatsapp_credits_available, oc.email_credits_available \
                 FROM organizations o JOIN organization_credits oc ON o.id = oc.organization_id WHERE o.id = {id}"
            ),
        ),
        read(
            "newest consumptions",
            "GET /v1/organizations/{id}/consumptions",
            format!(
                "SELECT id, action_type, quantity, success, created_at FROM credit_consumption_logs \
                 WHERE organization_id = {id} ORDER BY created_at DESC LIMIT 20"
            ),
        ),
        read(
            "latest successes",
            "the newest consumptions of all organizations",
            "SELECT organization_id, action_type, created_at FROM credit_consumption_logs WHERE success = TRUE \
             ORDER BY created_at DESC LIMIT 20"
                .to_owned(),
        ),
        read(
            "largest consumptions",
            "spending over several types of credit",
            format!("SELECT {consumed} FROM credit_consumption_logs WHERE {any} ORDER BY {largest} LIMIT 20"),
        ),
        read(
            "newest movements",
            "GET /v1/organizations/{id}/ledger",
            format!(
                "SELECT sequence, kind, created_at FROM credit_movements WHERE organization_id = {id} \
                 ORDER BY sequence DESC LIMIT 20"
            ),
        ),
        read(
            "unspent lots",
            "settling an organization",
            format!("SELECT id FROM credit_grants WHERE organization_id = {id} AND state IN ('pending', 'active')"),
        ),
        read(
            "open holds",
            "settling an organization",
            format!("SELECT id FROM credit_holds WHERE organization_id = {id} AND state = 'open'"),
        ),
        read(
            "idempotency key",
            "every request that moves credits",
            format!("SELECT reference FROM idempotency_keys WHERE organization_id = {id} AND key_id = {nothing}"),
        ),
        read(
            "API key",
            "every request with a key that is not cached",
            format!("SELECT id FROM api_keys WHERE key_digest = {digest}"),
        ),
        read(
            "boundaries due",
            "the sweep",
            format!(
                "SELECT organization_id FROM organization_credits WHERE next_boundary_at IS NOT NULL \
                 AND next_boundary_at <= '{}' ORDER BY next_boundary_at LIMIT 200",
                // As both engines compare it.
                now.to_rfc3339()
            ),
        ),
    ]
}

/// An id as that engine writes it in SQL.
pub(super) fn uuid(engine: Engine, id: Uuid) -> String {
    match engine {
        Engine::Postgres => format!("'{id}'"),
        Engine::Sqlite => format!("X'{}'", id.simple()),
    }
}
