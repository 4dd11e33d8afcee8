//! How things look in the audit log: as the API shows them, and never with a secret.
//!
//! Every field is bounded where it comes in (names, references, reasons), so that a snapshot is: a few kilobytes at most.

use multicredit_domain::{
    AlertRule, CreditType, Grant, Hold, Lot, Organization, Plan, PlanTerms, Price, Refund, Subscription, TopUpRule,
};
use serde_json::{Value, json};

use crate::ledger::Adjustment;
use crate::repo::api_key::ApiKey;
use crate::webhook::WebhookEndpoint;

pub(crate) fn organization(organization: &Organization) -> Value {
    json!({
        "name": organization.name,
        "external_id": organization.external_id,
        "time_zone": organization.time_zone,
        "status": organization.status,
    })
}

pub(crate) fn price(price: &Price) -> Value {
    json!({
        "version": price.version,
        "costs": price.costs,
        "unit_size": price.unit_size,
        "description": price.description,
        "active": price.active,
        "effective_at": price.effective_at,
    })
}

pub(crate) fn plan(plan: &Plan) -> Value {
    terms(&plan.terms)
}

fn terms(terms: &PlanTerms) -> Value {
    json!({
        "version": terms.version,
        "allowance": terms.allowance,
        "interval": terms.period,
        "rollover": terms.rollover_max.map(|max| json!({ "max": max })),
        "priority": terms.priority,
    })
}

pub(crate) fn grant(Grant { lot, reference }: &Grant) -> Value {
    let mut value = self::lot(lot);
    value["reference"] = json!(reference);
    value
}

fn lot(lot: &Lot) -> Value {
    json!({
        "credits": lot.granted,
        "remaining": lot.remaining,
        "state": lot.state,
        "source": lot.source,
        "priority": lot.priority,
        "effective_at": lot.validity.effective_at,
        "expires_at": lot.validity.expires_at,
        "voided_at": lot.voided_at,
    })
}

pub(crate) fn adjustment(adjustment: &Adjustment) -> Value {
    json!({
        "change": adjustment.change,
        "reason": adjustment.reason,
        "grant_id": adjustment.grant_id,
        "available": adjustment.available,
    })
}

pub(crate) fn refund(refund: &Refund) -> Value {
    json!({
        "consumption_id": refund.consumption_id,
        "quantity": refund.quantity,
        "refunded": refund.refunded,
        "reason": refund.reason,
        "grant_id": refund.grant_id,
        "available": refund.available,
    })
}

pub(crate) fn hold(hold: &Hold) -> Value {
    json!({
        "action": hold.action,
        "quantity": hold.quantity,
        "held": hold.credits,
        "price_version": hold.price_version,
        "status": hold.state,
        "actor": hold.actor,
        "expires_at": hold.expires_at,
        "finished_at": hold.finished_at,
    })
}

/// What was agreed, which time alone does not change: periods begin and end without anybody doing anything.
pub(crate) fn subscription(subscription: &Subscription) -> Value {
    let next = subscription.next_terms.as_ref();
    json!({
        "plan": subscription.terms.code,
        "version": subscription.terms.version,
        "time_zone": subscription.time_zone,
        "anchor": subscription.anchor,
        "next": next.map(|terms| json!({ "plan": terms.code, "version": terms.version })),
    })
}

pub(crate) fn alert_rule(rule: &AlertRule) -> Value {
    json!({
        "name": rule.name,
        "organization_id": rule.organization_id,
        "credit_type": rule.credit_type.map(CreditType::as_str),
        "measure": rule.terms.measure,
        "threshold": rule.terms.threshold,
        "recover_at": rule.terms.recover_at,
        "active": rule.active,
    })
}

pub(crate) fn top_up_rule(rule: &TopUpRule) -> Value {
    json!(rule.terms)
}

pub(crate) fn api_key(key: &ApiKey) -> Value {
    json!({
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "organization_id": key.organization_id,
        "revoked_at": key.revoked_at,
    })
}

/// Since when a secret is there, and never what it is.
pub(crate) fn webhook_endpoint(endpoint: &WebhookEndpoint) -> Value {
    json!({
        "organization_id": endpoint.organization_id,
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events.to_text().map(|events| events.split(',').map(str::to_owned).collect::<Vec<_>>()),
        "enabled": endpoint.enabled,
        "gone": endpoint.is_gone,
        "secret_created_at": endpoint.secret_made_at,
        "previous_secret_until": endpoint.previous.as_ref().map(|(_, until)| until),
    })
}
