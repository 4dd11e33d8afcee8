//! `/v1/api-keys`: who may call, and what they may do.

use std::collections::HashSet;

use multicredit_domain::{ApiKeyId, OrganizationId, Timestamp};
use multicredit_store::{NewApiKey, PageRequest, Scope};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use super::example;
use crate::auth::{self, Auth, KEY_NAME_MAX_CHARS, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::{Path, Query};
use crate::payload::{Created, Json, NoContent};
use crate::problem::{Code, Failure, Problem, failures};
use crate::wire::{Line, Wire};

/// A key to make.
#[derive(Debug, Deserialize, Serialize, Object)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[oai(rename = "NewApiKey", example, skip_serializing_if_is_none)]
struct NewKey {
    /// What people call it.
    name: Wire<Line<KEY_NAME_MAX_CHARS>>,
    /// What it may do; at least one, each once.
    #[serde(deserialize_with = "some_scopes")]
    #[oai(validator(min_items = "1", max_items = "4", unique_items))]
    scopes: Vec<Wire<Scope>>,
    /// The only organization that it sees. Left out, it sees all, or what the key that makes it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Wire<Tenant>>,
}

fn some_scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Wire<Scope>>, D::Error> {
    let scopes = Vec::<Wire<Scope>>::deserialize(deserializer)?;
    let different: HashSet<Scope> = scopes.iter().map(|Wire(scope)| *scope).collect();
    if scopes.is_empty() || different.len() < scopes.len() {
        return Err(serde::de::Error::custom("must hold at least one scope, and each once"));
    }
    Ok(scopes)
}

impl Example for NewKey {
    fn example() -> Self {
        Self {
            name: example::text("chat backend"),
            scopes: vec![Wire(Scope::Read), Wire(Scope::Consume)],
            organization_id: Some(Wire(Tenant::example())),
        }
    }
}

/// A key, without the secret.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "ApiKey", example, skip_serializing_if_is_none)]
struct Key {
    id: Wire<Uuid>,
    /// What people call it.
    name: String,
    /// The secret's first characters, to recognize it by.
    prefix: String,
    /// What it may do.
    scopes: Vec<Wire<Scope>>,
    /// The only organization that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Wire<Uuid>>,
    /// When it was made.
    created_at: Wire<Timestamp>,
    /// When it ceased to be valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Wire<Timestamp>>,
}

impl From<multicredit_store::ApiKey> for Key {
    fn from(key: multicredit_store::ApiKey) -> Self {
        Self {
            id: Wire(key.id.uuid()),
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes.into_iter().map(Wire).collect(),
            organization_id: key.organization_id.map(|id| Wire(id.uuid())),
            created_at: Wire(key.created_at),
            revoked_at: key.revoked_at.map(Wire),
        }
    }
}

impl Example for Key {
    fn example() -> Self {
        Self {
            id: Wire(example::API_KEY_ID),
            name: "chat backend".to_owned(),
            prefix: "mc_Zm9vYmFyM".to_owned(),
            scopes: vec![Wire(Scope::Read), Wire(Scope::Consume)],
            organization_id: Some(Wire(example::ORGANIZATION_ID.uuid())),
            created_at: example::time(),
            revoked_at: None,
        }
    }
}

/// A new key. Its secret is shown this once.
#[derive(Serialize, Object)]
#[oai(rename = "NewApiKeySecret", example, skip_serializing_if_is_none)]
struct Secret {
    id: Wire<Uuid>,
    /// The secret, to be sent as `Authorization: Bearer KEY`. It is not stored and cannot be shown again.
    key: String,
    /// What people call it.
    name: String,
    /// The secret's first characters, to recognize it by.
    prefix: String,
    /// What it may do.
    scopes: Vec<Wire<Scope>>,
    /// The only organization that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    organization_id: Option<Wire<Uuid>>,
    /// When it was made.
    created_at: Wire<Timestamp>,
}

impl Secret {
    fn of(secret: String, made: Key) -> Self {
        let Key { id, name, prefix, scopes, organization_id, created_at, revoked_at: _ } = made;
        Self { id, key: secret, name, prefix, scopes, organization_id, created_at }
    }
}

impl Example for Secret {
    fn example() -> Self {
        Self::of("mc_Zm9vYmFyMDEyMzQ1Njc4OWFiY2RlZmdoaWprbG1ub3A".to_owned(), Key::example())
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::ApiKeys")]
impl Api {
    /// Make an API key
    ///
    /// The secret stands in the answer, this once. A key that is bound to an organization makes keys that are bound to
    /// the same; to name another is 404 `unknown_organization`.
    ///
    /// Scope: `admin`.
    #[oai(path = "/api-keys", method = "post", operation_id = "createApiKey")]
    async fn create(
        &self,
        auth: Auth<scope::Admin>,
        body: Json<NewKey>,
    ) -> Result<Created<Secret>, Failure<failures::Writing>> {
        let NewKey { name, scopes, organization_id } = body.0;
        let secret = auth::new_secret();
        let new = NewApiKey {
            name: name.0.into_string(),
            digest: auth::digest(&secret),
            prefix: auth::prefix(&secret),
            scopes: scopes.into_iter().map(|Wire(scope)| scope).collect(),
            organization_id: binding(&auth, organization_id).await?,
        };
        let made = auth.acting().create_api_key(new).await?;
        Ok(Created(Secret::of(secret, made.into())))
    }

    /// List API keys
    ///
    /// Newest first, revoked ones included, none with its secret. A key that is bound to an organization sees those that
    /// are bound to the same.
    ///
    /// Scope: `read`.
    #[oai(path = "/api-keys", method = "get", operation_id = "listApiKeys")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Key>>, Failure<failures::Listing>> {
        let wanted = page::request::<ApiKeyId>(limit, cursor)?;
        let found = auth.store().api_keys(auth.bound_to(), wanted).await?;
        Ok(Json(Page::of(found, Key::from)))
    }

    /// Revoke an API key
    ///
    /// It ceases to be valid: at once where this is answered, within five seconds everywhere. To revoke it again changes
    /// nothing.
    ///
    /// Scope: `admin`.
    #[oai(path = "/api-keys/:api_key_id", method = "delete", operation_id = "revokeApiKey")]
    async fn revoke(
        &self,
        auth: Auth<scope::Admin>,
        /// The key.
        api_key_id: Path<ApiKeyId>,
    ) -> Result<NoContent, Failure<failures::Revoking>> {
        let id = api_key_id.0;
        let is_known = match auth.bound_to() {
            Some(own) => is_bound_to(&auth, id, own).await?,
            None => true,
        };
        if is_known && auth::revoke(&auth, id).await? {
            Ok(NoContent)
        } else {
            Err(Problem::new(Code::NotFound).into())
        }
    }
}

/// What a new key is bound to: what was asked for, as far as the caller may ask, else what the caller is bound to.
async fn binding<R>(auth: &Auth<R>, asked: Option<Wire<Tenant>>) -> Result<Option<OrganizationId>, Problem> {
    let Some(Wire(tenant)) = asked else { return Ok(auth.bound_to()) };
    let id = auth.organization(tenant)?;
    Ok(Some(auth.store().organization(id).await?.id))
}

/// Whether the key exists and is bound to that organization: the first of its keys whose id is not above `id`.
async fn is_bound_to<R>(auth: &Auth<R>, id: ApiKeyId, own: OrganizationId) -> Result<bool, Problem> {
    let next = ApiKeyId::new(Uuid::from_u128(id.uuid().as_u128().saturating_add(1)));
    let found = auth.store().api_keys(Some(own), PageRequest { after: Some(next), limit: 1 }).await?;
    Ok(found.items.iter().any(|key| key.id == id))
}
