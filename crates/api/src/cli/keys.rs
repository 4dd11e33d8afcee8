//! `multicredit keys`: API keys without an API, for the first key and for automation beside the database.

use anyhow::{Context, bail};
use multicredit_domain::{ApiKeyId, ExternalId, Organization, OrganizationId, Refusal, text};
use multicredit_store::{ApiKey, NewApiKey, PageRequest, Scope, Store, StoreError};
use serde_json::{Value, json};

use super::{Outcome, database, output};
use crate::auth;
use crate::config::{CreateKeyArgs, ListKeysArgs, OutputFormat, RevokeKeyArgs, Secret};

/// Keys read at a time.
const PAGE: u32 = 100;

/// Makes a key and prints it.
pub async fn create(args: CreateKeyArgs) -> anyhow::Result<Outcome> {
    text::check_name(&args.name, auth::KEY_NAME_MAX_CHARS).context("--name")?;
    let store = database::open(&args.database, "keys").await?;
    let created = make(&store, &args).await;
    store.close().await;
    let (key, secret) = created?;
    match args.output.format {
        OutputFormat::Text => output::print(&format!(
            "{}\n\nThis is the only time the key is shown. Its id is {}, its scopes are {}, and it sees {}.",
            secret.expose(),
            key.id,
            scopes(&key),
            key.organization_id
                .map_or_else(|| "every organization".to_owned(), |id| format!("organization {id} alone")),
        ))?,
        OutputFormat::Json => {
            let mut object = as_json(&key);
            object["key"] = secret.expose().into();
            output::print_json(&object)?;
        }
    }
    Ok(Outcome::Success)
}

async fn make(store: &Store, args: &CreateKeyArgs) -> anyhow::Result<(ApiKey, Secret)> {
    let organization_id = find_optional(store, args.organization.as_deref()).await?;
    let secret = Secret::from(auth::new_secret());
    // In the order of their declaration, each once, however they were given.
    let scopes = Scope::ALL.into_iter().filter(|scope| args.scopes.contains(scope)).collect();
    let new = NewApiKey {
        name: args.name.clone(),
        digest: auth::digest(secret.expose()),
        prefix: auth::prefix(secret.expose()),
        scopes,
        organization_id,
    };
    let key = store.create_api_key(new).await.context("cannot register the key")?;
    Ok((key, secret))
}

/// Lists the keys.
pub async fn list(args: ListKeysArgs) -> anyhow::Result<Outcome> {
    let store = database::open(&args.database, "keys").await?;
    let keys = read_all(&store, args.organization.as_deref()).await;
    store.close().await;
    let keys = keys?;
    match args.output.format {
        OutputFormat::Text => output::print(&as_table(&keys))?,
        OutputFormat::Json => output::print_json(&keys.iter().map(as_json).collect::<Vec<_>>())?,
    }
    Ok(Outcome::Success)
}

async fn read_all(store: &Store, organization: Option<&str>) -> anyhow::Result<Vec<ApiKey>> {
    let organization_id = find_optional(store, organization).await?;
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page =
            store.api_keys(organization_id, PageRequest { after, limit: PAGE }).await.context("cannot read keys")?;
        keys.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(keys),
        }
    }
}

/// Revokes a key.
pub async fn revoke(args: RevokeKeyArgs) -> anyhow::Result<Outcome> {
    let store = database::open(&args.database, "keys").await?;
    let revoked = store.revoke_api_key(args.id).await;
    store.close().await;
    report_revocation(args.id, revoked.context("cannot revoke the key")?)
}

fn report_revocation(id: ApiKeyId, is_known: bool) -> anyhow::Result<Outcome> {
    if !is_known {
        bail!("there is no key with the id {id}");
    }
    output::print(&format!("revoked {id}"))?;
    Ok(Outcome::Success)
}

async fn find_optional(store: &Store, organization: Option<&str>) -> anyhow::Result<Option<OrganizationId>> {
    match organization {
        Some(name) => {
            let found = find(store, name).await.context("cannot look the organization up")?;
            let found = found.with_context(|| format!("there is no organization with the id or external id {name}"))?;
            Ok(Some(found.id))
        }
        None => Ok(None),
    }
}

/// The organization of that id, else of that external id, which may well look like an id.
async fn find(store: &Store, name: &str) -> Result<Option<Organization>, StoreError> {
    if let Ok(id) = name.parse() {
        match store.organization(id).await {
            Ok(organization) => return Ok(Some(organization)),
            Err(StoreError::Refused(Refusal::UnknownOrganization)) => {}
            Err(error) => return Err(error),
        }
    }
    match ExternalId::new(name) {
        Ok(external_id) => store.organization_by_external_id(&external_id).await,
        Err(_) => Ok(None),
    }
}

fn scopes(key: &ApiKey) -> String {
    key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

fn as_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "prefix": key.prefix,
        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "organization_id": key.organization_id,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    })
}

/// One line a key under a header, columns aligned. The name comes last, since its width is anybody's guess.
fn as_table(keys: &[ApiKey]) -> String {
    let header = ["ID", "PREFIX", "SCOPES", "ORGANIZATION", "STATE", "NAME"].map(str::to_owned);
    let rows = keys.iter().map(|key| {
        [
            key.id.to_string(),
            key.prefix.clone(),
            scopes(key),
            key.organization_id.map_or_else(|| "all".to_owned(), |id| id.to_string()),
            if key.revoked_at.is_some() { "revoked" } else { "valid" }.to_owned(),
            key.name.clone(),
        ]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let widths: [usize; 6] = std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use multicredit_domain::Timestamp;

    use super::*;

    fn key() -> ApiKey {
        ApiKey {
            id: "01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f".parse().unwrap(),
            name: "checkout".to_owned(),
            prefix: "mc_abcdefghi".to_owned(),
            scopes: vec![Scope::Read, Scope::Consume],
            organization_id: None,
            created_at: Timestamp::UNIX_EPOCH,
            revoked_at: Some(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn the_list_is_aligned_and_shows_what_is_revoked() {
        let expected = "\
ID                                    PREFIX        SCOPES        ORGANIZATION  STATE    NAME
01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f  mc_abcdefghi  read,consume  all           revoked  checkout";
        assert_eq!(as_table(&[key()]), expected);
    }

    #[test]
    fn json_has_the_fields_of_the_api() {
        let json = as_json(&key());
        assert_eq!(json["scopes"], json!(["read", "consume"]));
        assert_eq!(json["organization_id"], Value::Null);
        assert_eq!(json["created_at"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn revoking_what_is_not_there_is_an_error_that_names_it() {
        let error = report_revocation(key().id, false).unwrap_err();
        assert!(error.to_string().contains("01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f"), "{error}");
    }
}
