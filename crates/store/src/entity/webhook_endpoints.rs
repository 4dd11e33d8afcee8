//! `webhook_endpoints`: where events are sent.

use multicredit_domain::{EndpointId, EventFilter, OrganizationId, WebhookSecret};
use sea_orm::entity::prelude::*;

use crate::error::BadRow;
use crate::webhook::WebhookEndpoint;

const TABLE: &str = "webhook_endpoints";

/// A row of `webhook_endpoints`.
#[derive(Clone, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_endpoints")]
#[expect(clippy::struct_excessive_bools, reason = "each is a column")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose events; none is those of all organizations.
    pub organization_id: Option<Uuid>,
    /// Where they are sent.
    pub url: String,
    /// For people.
    pub description: Option<String>,
    /// Which events, comma separated; none is all that need not be asked for.
    pub events: Option<String>,
    /// Whether consumptions are among them.
    pub wants_consumed: bool,
    /// Whether refused attempts are among them.
    pub wants_refused: bool,
    /// Whether anything is sent.
    pub enabled: bool,
    /// Whether it is not because the receiver said that it is gone.
    pub is_gone: bool,
    /// What is signed with; empty once deleted.
    pub secret: String,
    /// Since when.
    pub secret_made_at: DateTimeUtc,
    /// What was signed with before, and is as well until then.
    pub previous_secret: Option<String>,
    /// Until when.
    pub previous_until: Option<DateTimeUtc>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was changed.
    pub updated_at: DateTimeUtc,
    /// When it was deleted.
    pub deleted_at: Option<DateTimeUtc>,
}

/// Without the secrets.
impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("webhook_endpoints::Model").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for WebhookEndpoint {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        let previous = row.previous_secret.as_deref().map(WebhookSecret::parse).transpose();
        let previous = previous.map_err(|_| bad("previous_secret"))?;
        Ok(Self {
            id: EndpointId::new(row.id),
            organization_id: row.organization_id.map(OrganizationId::new),
            url: row.url,
            description: row.description,
            events: EventFilter::from_text(row.events.as_deref()).ok_or(bad("events"))?,
            enabled: row.enabled,
            is_gone: row.is_gone,
            secret: WebhookSecret::parse(&row.secret).map_err(|_| bad("secret"))?,
            secret_made_at: row.secret_made_at,
            previous: previous.zip(row.previous_until),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}
