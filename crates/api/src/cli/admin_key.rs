//! The admin key that a server starts with: without one, nobody could make the first key.

use anyhow::{Context, bail};
use multicredit_store::{ApiKey, Conflict, NewApiKey, Scope, Store, StoreError};

use crate::auth;
use crate::config::Secret;

/// What the key that an operator configured is called in lists.
pub const CONFIGURED: &str = "MULTICREDIT_ADMIN_KEY";

/// What the key that was made at the first start is called in lists.
const FIRST: &str = "made at the first start";

/// Refuses a configured key that HTTP could not carry or that could be guessed. Does not repeat it.
pub fn check(secret: &Secret) -> anyhow::Result<()> {
    if !auth::is_acceptable_admin_key(secret.expose()) {
        bail!("--admin-key (MULTICREDIT_ADMIN_KEY) must be 32 to 255 visible ASCII characters");
    }
    Ok(())
}

/// Registers the key unless it is known. A known one stays as it is: a start must not undo a revocation.
pub async fn register(store: &Store, secret: &Secret, name: &str) -> anyhow::Result<()> {
    if let Some(key) = find(store, secret).await? {
        if !opens_everything(&key) {
            tracing::warn!(id = %key.id, "the admin key is revoked or was registered with fewer rights: it stays so");
        }
        return Ok(());
    }
    let new = NewApiKey {
        name: name.to_owned(),
        digest: auth::digest(secret.expose()),
        prefix: auth::prefix(secret.expose()),
        scopes: vec![Scope::Admin],
        organization_id: None,
    };
    match store.create_api_key(new).await {
        Ok(key) => {
            tracing::info!(id = %key.id, name, "registered an admin key");
            Ok(())
        }
        // Another server, started at the same time with the same key, was faster.
        Err(StoreError::Conflict(Conflict::KeyExists)) => Ok(()),
        Err(error) => Err(error).context("cannot register the admin key"),
    }
}

/// Makes a key if there is none with which everything can be administered, and shows it: the only time it is seen.
pub async fn make_first(store: &Store, show: impl FnOnce(&Secret) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if store.has_admin_key().await.context("cannot look for an admin key")? {
        return Ok(());
    }
    let secret = Secret::from(auth::new_secret());
    // First shown: a key that is registered and was seen by nobody would be the only one, and lost.
    show(&secret)?;
    register(store, &secret, FIRST).await
}

/// Whether the key is registered and opens everything.
pub async fn is_valid(store: &Store, secret: &Secret) -> anyhow::Result<bool> {
    Ok(find(store, secret).await?.is_some_and(|key| opens_everything(&key)))
}

async fn find(store: &Store, secret: &Secret) -> anyhow::Result<Option<ApiKey>> {
    store.api_key_by_digest(&auth::digest(secret.expose())).await.context("cannot look the admin key up")
}

fn opens_everything(key: &ApiKey) -> bool {
    key.revoked_at.is_none() && key.organization_id.is_none() && key.scopes.contains(&Scope::Admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_key_is_long_and_visible_and_a_refusal_does_not_show_it() {
        assert!(check(&"k".repeat(32).into()).is_ok());
        for bad in [String::new(), "k".repeat(31), "k".repeat(256), format!("{} secret", "k".repeat(40))] {
            let error = check(&bad.clone().into()).unwrap_err().to_string();
            assert!(error.contains("MULTICREDIT_ADMIN_KEY"), "{error}");
            assert!(bad.is_empty() || !error.contains(&bad), "{error}");
        }
    }
}
