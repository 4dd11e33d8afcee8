//! `/v1/audit-log`: who changed what.

use multicredit_domain::{ApiKeyId, Timestamp};
use multicredit_store::{AuditFilter, AuditLine, AuditOperation};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::Example;
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize as _, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{example, exists};
use crate::auth::{Auth, Tenant, scope};
use crate::openapi::Tag;
use crate::page::{self, Cursor, Limit, Page};
use crate::param::Query;
use crate::payload::Json;
use crate::problem::{Failure, Problem, failures};
use crate::wire::{Shape, Wire};

/// How something was, or is: the fields that it has, as far as they can be changed.
#[derive(Debug, Clone)]
struct Snapshot(Value);

impl Shape for Snapshot {
    const NAME: &'static str = "AuditSnapshot";
    const IS_COMPONENT: bool = true;

    fn schema() -> MetaSchema {
        MetaSchema {
            description: Some(
                "How something was, or is: the fields that the operation can change, named as its own answers name them. \
                 Never a secret.",
            ),
            additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::ANY)))),
            example: Some(json!({ "role": "billing" })),
            ..MetaSchema::new("object")
        }
    }

    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self)
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// A line of the audit log.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "AuditLine", example)]
struct Line {
    /// The organization that it is about; `null` for what belongs to none, such as prices and plans.
    #[oai(nullable)]
    organization_id: Option<Wire<Uuid>>,
    /// Its number among the lines of the organization, or among those of none, without gaps from 1.
    sequence: i64,
    /// When it was recorded.
    created_at: Wire<Timestamp>,
    /// What was done: the id that the operation has in this document.
    operation: String,
    /// What it was done to: an id, the name of an action, the code of a plan, a user.
    subject: String,
    /// The API key that it was done with; `null` where none was needed, as on the command line.
    #[oai(nullable)]
    api_key_id: Option<Wire<Uuid>>,
    /// What people called the key.
    #[oai(nullable)]
    api_key_name: Option<String>,
    /// The first characters of the key's secret.
    #[oai(nullable)]
    api_key_prefix: Option<String>,
    /// Who caused it, if the caller said so by `X-Actor` or in the body.
    #[oai(nullable)]
    actor: Option<String>,
    /// The request that it was done by.
    #[oai(nullable)]
    request_id: Option<String>,
    /// How it was before; `null` if it was not there.
    #[oai(nullable)]
    before: Option<Wire<Snapshot>>,
    /// How it is since; `null` if it is no longer there.
    #[oai(nullable)]
    after: Option<Wire<Snapshot>>,
    /// The SHA-256 of this line and of the one before it, in hexadecimal digits.
    hash: String,
}

impl From<AuditLine> for Line {
    fn from(line: AuditLine) -> Self {
        Self {
            organization_id: line.organization_id.map(|id| Wire(id.uuid())),
            sequence: line.sequence,
            created_at: Wire(line.created_at),
            operation: line.operation,
            subject: line.subject,
            api_key_id: line.api_key_id.map(|id| Wire(id.uuid())),
            api_key_name: line.api_key_name,
            api_key_prefix: line.api_key_prefix,
            actor: line.actor,
            request_id: line.request_id,
            before: line.before.map(|before| Wire(Snapshot(before))),
            after: line.after.map(|after| Wire(Snapshot(after))),
            hash: line.hash,
        }
    }
}

impl Example for Line {
    fn example() -> Self {
        Self {
            organization_id: Some(Wire(example::ORGANIZATION_ID.uuid())),
            sequence: 12,
            created_at: example::time(),
            operation: AuditOperation::PutMember.as_str().to_owned(),
            subject: "user-42".to_owned(),
            api_key_id: Some(Wire(example::API_KEY_ID)),
            api_key_name: Some("chat backend".to_owned()),
            api_key_prefix: Some("mc_Zm9vYmFyM".to_owned()),
            actor: Some("user-7".to_owned()),
            request_id: Some(example::REQUEST_ID.to_owned()),
            before: Some(Wire(Snapshot(json!({ "role": "member" })))),
            after: Some(Wire(Snapshot(json!({ "role": "billing" })))),
            hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        }
    }
}

/// The operations.
pub struct Api;

#[OpenApi(prefix_path = "/v1", tag = "Tag::AuditLog")]
impl Api {
    /// Read the audit log
    ///
    /// Every change that is not a consumption: who made it, and how things were before and are since. Newest first. A key
    /// that is bound to an organization sees the lines of that one alone.
    ///
    /// Scope: `read`.
    #[oai(path = "/audit-log", method = "get", operation_id = "listAuditLog")]
    #[expect(clippy::too_many_arguments, reason = "one for each parameter that the operation documents")]
    async fn list(
        &self,
        auth: Auth<scope::Read>,
        /// Only those of this organization.
        organization_id: Query<Tenant>,
        /// Only those of this operation.
        operation: Query<AuditOperation>,
        /// Only those of changes that were made with this API key.
        api_key_id: Query<ApiKeyId>,
        /// Only those recorded at this instant or later.
        from: Query<Timestamp>,
        /// Only those recorded before this instant.
        to: Query<Timestamp>,
        /// The most items to answer.
        limit: Query<Limit>,
        /// The `next_cursor` of the page before.
        cursor: Query<Cursor>,
    ) -> Result<Json<Page<Line>>, Failure<failures::Reading>> {
        let asked = organization_id.0.map(|tenant| auth.organization(tenant)).transpose()?;
        let filter = AuditFilter {
            organization_id: asked.or(auth.bound_to()),
            operation: operation.0,
            api_key_id: api_key_id.0,
            from: from.0,
            to: to.0,
        };
        if filter.from.zip(filter.to).is_some_and(|(from, to)| to < from) {
            return Err(Problem::invalid("to", "must not be before from").into());
        }
        let found = auth.store().audit_log(filter, page::request(limit, cursor)?).await?;
        if let Some(id) = asked {
            exists(&auth, id, &found.items).await?;
        }
        Ok(Json(Page::of(found, Line::from)))
    }
}
