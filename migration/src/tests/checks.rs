//! What the schema refuses.

use sea_orm_migration::sea_orm::{ConnectionTrait, DatabaseConnection};

use super::{AT, LATER, migrated};
use crate::helper::credits::{AMOUNT_MAX, CREDIT_TYPES};

fn an_organization() -> String {
    format!("INSERT INTO organizations VALUES (x'00', 'Acme', 'acme', 'UTC', 'active', {AT}, {AT})")
}

fn a_grant() -> String {
    format!(
        "INSERT INTO credit_grants (organization_id, id, ai_credits_granted, ai_credits_remaining, state, source, \
         priority, effective_at, expires_at, created_at) \
         VALUES (x'00', x'01', 5, 5, 'active', 'plan', 10, {AT}, {LATER}, {AT})"
    )
}

/// Runs each statement and expects an error that names what is violated.
async fn refuses(db: &DatabaseConnection, statements: &[(impl AsRef<str>, &str)]) {
    for (statement, complaint) in statements {
        let statement = statement.as_ref();
        let error = db.execute_unprepared(statement).await.expect_err(statement).to_string();
        assert!(error.contains(complaint), "{statement}: {error}");
    }
}

#[tokio::test]
async fn the_checks_refuse_what_must_not_be() {
    let (_file, db) = migrated().await;
    let organization = an_organization();
    let balance = format!(
        "INSERT INTO organization_credits (organization_id, ai_credits_available, status, sequence, last_movement_at, \
         settled_sequence) VALUES (x'00', 5, 'active', 1, {AT}, 1)"
    );
    let consumption = format!(
        "INSERT INTO credit_consumption_logs (id, organization_id, action_type, quantity, success, error_code, \
         created_at, sequence, price_version) VALUES (x'02', x'00', 'sms', 1, true, NULL, {AT}, 1, 1)"
    );
    let draw = "INSERT INTO credit_draws (organization_id, sequence, grant_id, ai_credits_drawn, ai_credits_returned) \
                VALUES (x'00', 1, x'01', 3, 3)"
        .to_owned();
    let api_key = format!("INSERT INTO api_keys VALUES (x'03', 'n', zeroblob(32), 'p', 'read', NULL, {AT}, NULL)");
    for valid in [&organization, &a_grant(), &balance, &consumption, &draw, &api_key] {
        db.execute_unprepared(valid).await.unwrap();
    }

    let too_large = AMOUNT_MAX + 1;
    let wrong = [
        ("UPDATE organizations SET status = 'gone'".to_owned(), "ck_organizations_status"),
        (organization.replace("x'00'", "x'09'"), "organizations.external_id"),
        ("UPDATE organization_credits SET status = 'gone'".to_owned(), "ck_organization_credits_status"),
        (
            "UPDATE organization_credits SET sms_credits_held = -1".to_owned(),
            "ck_organization_credits_sms_credits_held",
        ),
        ("UPDATE organization_credits SET settled_sequence = 2".to_owned(), "ck_organization_credits_settled_sequence"),
        ("UPDATE organization_credits SET organization_id = x'09'".to_owned(), "FOREIGN KEY"),
        ("UPDATE credit_actions SET latest_version = 0".to_owned(), "ck_credit_actions_latest_version"),
        ("UPDATE credit_action_versions SET unit_size = 0".to_owned(), "ck_credit_action_versions_unit_size"),
        (format!("UPDATE credit_action_versions SET unit_size = {too_large}"), "ck_credit_action_versions_unit_size"),
        (
            "UPDATE credit_grants SET ai_credits_remaining = 6".to_owned(),
            "ck_credit_grants_ai_remaining_within_granted",
        ),
        ("UPDATE credit_grants SET expires_at = effective_at".to_owned(), "ck_credit_grants_validity"),
        ("UPDATE credit_draws SET ai_credits_returned = 4".to_owned(), "ck_credit_draws_ai_returned_within_drawn"),
        ("UPDATE credit_draws SET grant_id = x'09'".to_owned(), "FOREIGN KEY"),
        ("UPDATE credit_consumption_logs SET quantity = 0".to_owned(), "ck_credit_consumption_logs_quantity"),
        (
            "UPDATE credit_consumption_logs SET sequence = NULL".to_owned(),
            "ck_credit_consumption_logs_success_has_sequence",
        ),
        (
            "UPDATE credit_consumption_logs SET error_code = 'x'".to_owned(),
            "ck_credit_consumption_logs_refusal_has_error_code",
        ),
        (
            "UPDATE credit_consumption_logs SET ai_credits_available_after = -1".to_owned(),
            "ck_credit_consumption_logs_ai_credits_available_after",
        ),
        ("UPDATE api_keys SET key_digest = zeroblob(31)".to_owned(), "ck_api_keys_key_digest"),
        (api_key.replace("x'03'", "x'09'"), "api_keys.key_digest"),
    ];
    refuses(&db, &wrong).await;
}

#[tokio::test]
async fn holds_and_refunds_must_make_sense() {
    let (_file, db) = migrated().await;
    let hold = format!(
        "INSERT INTO credit_holds (organization_id, id, action_type, quantity, price_version, ai_credits_held, state, \
         sequence, created_at, expires_at) VALUES (x'00', x'04', 'ai_chat', 1, 1, 1, 'open', 1, {AT}, {LATER})"
    );
    let refund = format!(
        "INSERT INTO credit_refunds (organization_id, id, consumption_id, quantity, ai_credits_refunded, grant_id, \
         reason, sequence, created_at) VALUES (x'00', x'05', x'02', 1, 1, x'01', 'sorry', 2, {AT}), \
         (x'00', x'06', x'02', 1, 1, NULL, 'sorry', 3, {AT})"
    );
    for valid in [&an_organization(), &a_grant(), &hold, &refund] {
        db.execute_unprepared(valid).await.unwrap();
    }

    let wrong = [
        ("UPDATE credit_holds SET state = 'gone'", "ck_credit_holds_state"),
        ("UPDATE credit_holds SET state = 'captured'", "ck_credit_holds_open_until_finished"),
        ("UPDATE credit_holds SET finished_at = expires_at", "ck_credit_holds_open_until_finished"),
        ("UPDATE credit_holds SET expires_at = created_at", "ck_credit_holds_validity"),
        ("UPDATE credit_holds SET quantity = 0", "ck_credit_holds_quantity"),
        ("UPDATE credit_holds SET sequence = 0", "ck_credit_holds_sequence"),
        ("UPDATE credit_holds SET ai_credits_held = -1", "ck_credit_holds_ai_credits_held"),
        ("UPDATE credit_holds SET organization_id = x'09'", "FOREIGN KEY"),
        ("UPDATE credit_refunds SET quantity = 0", "ck_credit_refunds_quantity"),
        ("UPDATE credit_refunds SET sequence = 0", "ck_credit_refunds_sequence"),
        ("UPDATE credit_refunds SET grant_id = x'09'", "FOREIGN KEY"),
        ("UPDATE credit_refunds SET organization_id = x'09' WHERE grant_id IS NULL", "FOREIGN KEY"),
    ];
    refuses(&db, &wrong).await;
    db.execute_unprepared("UPDATE credit_holds SET state = 'expired', finished_at = expires_at").await.unwrap();
}

#[tokio::test]
async fn plans_and_subscriptions_must_make_sense() {
    let (_file, db) = migrated().await;
    let plan = format!("INSERT INTO plans VALUES ('basic', 2, {AT}, {AT})");
    let rollover_max = CREDIT_TYPES.map(|credit_type| format!("{credit_type}_credits_rollover_max"));
    let versions = format!(
        "INSERT INTO plan_versions (code, version, ai_credits_allowance, period, {}, priority, created_at) \
         VALUES ('basic', 1, 5, 'month', NULL, NULL, NULL, NULL, 10, {AT}), \
         ('basic', 2, 5, 'week', 9, 0, 0, 0, 10, {AT})",
        rollover_max.join(", ")
    );
    let subscription = format!(
        "INSERT INTO subscriptions (organization_id, plan_code, plan_version, time_zone, anchor, next_index, \
         created_at, updated_at) VALUES (x'00', 'basic', 1, 'UTC', {AT}, 0, {AT}, {AT})"
    );
    let change = "UPDATE subscriptions SET next_plan_code = 'basic', next_plan_version = 2".to_owned();
    for valid in [&an_organization(), &plan, &versions, &subscription, &change] {
        db.execute_unprepared(valid).await.unwrap();
    }

    for column in &rollover_max {
        let one_is_null = format!("UPDATE plan_versions SET {column} = NULL WHERE version = 2");
        let one_is_not = format!("UPDATE plan_versions SET {column} = 0 WHERE version = 1");
        let complaint = "ck_plan_versions_rollover_max_all_or_none";
        refuses(&db, &[(one_is_null, complaint), (one_is_not, complaint)]).await;
    }
    let wrong = [
        ("UPDATE plans SET latest_version = 0", "ck_plans_latest_version"),
        ("UPDATE plan_versions SET version = 0", "ck_plan_versions_version"),
        ("UPDATE plan_versions SET period = 'hour'", "ck_plan_versions_period"),
        ("UPDATE plan_versions SET code = 'gone'", "FOREIGN KEY"),
        ("UPDATE plan_versions SET ai_credits_rollover_max = -1", "ck_plan_versions_ai_credits_rollover_max"),
        ("UPDATE subscriptions SET next_index = -1", "ck_subscriptions_next_index"),
        ("UPDATE subscriptions SET plan_version = 3", "FOREIGN KEY"),
        ("UPDATE subscriptions SET next_plan_version = 3", "FOREIGN KEY"),
        ("UPDATE subscriptions SET next_plan_version = NULL", "ck_subscriptions_next_plan"),
        ("UPDATE subscriptions SET next_plan_code = NULL", "ck_subscriptions_next_plan"),
        ("UPDATE subscriptions SET organization_id = x'09'", "FOREIGN KEY"),
    ];
    refuses(&db, &wrong).await;
}
