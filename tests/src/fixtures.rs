//! What tests of the store begin with: a store on a test's database, organizations with credits, requests.

use multicredit_domain::credit::COUNT;
use multicredit_domain::{
    ActionType, Amount, Consume, CreditType, Credits, ExternalId, GrantSource, IdempotencyKey, NewGrant,
    OrganizationId, Quantity, TimeZone,
};
use multicredit_store::{NewOrganization, Store, StoreConfig};

use crate::TestDb;

/// A store on the test's database.
///
/// # Panics
///
/// If the database cannot be opened.
pub async fn store(db: &TestDb) -> Store {
    Store::open(StoreConfig::new(db.url())).await.expect("the database opens")
}

/// An amount.
///
/// # Panics
///
/// If it is out of range.
pub fn amount(value: i64) -> Amount {
    Amount::new(value).expect("the amount is in range")
}

/// A vector of credits by type.
pub fn credits<const N: usize>(amounts: [(CreditType, i64); N]) -> Credits {
    let mut credits = Credits::ZERO;
    for (credit_type, value) in amounts {
        credits[credit_type] = amount(value);
    }
    credits
}

/// A vector of AI credits alone.
pub fn ai(value: i64) -> Credits {
    credits([(CreditType::Ai, value)])
}

/// A vector of credits from plain numbers, in the order of the types.
pub fn of_values(values: [i64; COUNT]) -> Credits {
    Credits::from_array(values.map(amount))
}

/// A vector of credits as plain numbers.
pub fn values(credits: Credits) -> [i64; COUNT] {
    credits.to_array().map(Amount::get)
}

/// A purchase of credits, spendable at once and for ever.
pub fn purchase(credits: Credits) -> NewGrant {
    NewGrant {
        credits,
        source: GrantSource::Purchase,
        priority: 10,
        effective_at: None,
        expires_at: None,
        reference: None,
        top_up_id: None,
    }
}

/// A consumption of one of the catalogue's actions.
///
/// # Panics
///
/// If the action's name or the quantity is not valid.
pub fn request(action: &str, quantity: i64) -> Consume {
    Consume {
        action: ActionType::new(action).expect("the name is valid"),
        quantity: Quantity::new(quantity).expect("the quantity is in range"),
        occurred_at: None,
        metadata: None,
        actor: None,
    }
}

/// The key of a request.
///
/// # Panics
///
/// If the key is not valid.
pub fn key(text: &str) -> Option<IdempotencyKey> {
    Some(IdempotencyKey::of_request(text).expect("the key is valid"))
}

/// A new organization that has bought these credits, or none if they are zero.
///
/// # Panics
///
/// If the store refuses.
pub async fn organization(store: &Store, external_id: &str, credits: Credits) -> OrganizationId {
    let new = NewOrganization {
        name: external_id.to_owned(),
        external_id: Some(ExternalId::new(external_id).expect("the name is valid")),
        time_zone: TimeZone::default(),
    };
    let organization = store.create_organization(new).await.expect("the organization is made");
    if !credits.is_zero() {
        store.grant(organization.id, purchase(credits), None).await.expect("the credits are granted");
    }
    organization.id
}
