//! Organizations.

use std::sync::Arc;

use futures_util::FutureExt as _;
use multicredit_domain::{ExternalId, Organization, OrganizationId, OrganizationStatus, Refusal, TimeZone};
use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::prelude::Uuid;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::{Map, json};

use super::{audit, in_transaction, lock_organization};
use crate::audit::{AuditOperation, Author, Change, snapshot};
use crate::clock::{self, Clock};
use crate::entity::{organization_credits, organizations};
use crate::error::{Conflict, StoreError, is_unique_violation};
use crate::page::{Page, PageRequest};
use crate::store::{Store, now};

/// An organization to make.
#[derive(Debug, Clone)]
pub struct NewOrganization {
    /// For people.
    pub name: String,
    /// The customer's own name for it; unique.
    pub external_id: Option<ExternalId>,
    /// Where its days and months begin.
    pub time_zone: TimeZone,
}

/// Text to find organizations by: a part of the name or of the external id, in whatever case, or the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search(String);

impl Search {
    /// A search for that text; `None` if there is nothing to search for. PostgreSQL takes no text with a NUL, and nothing
    /// is called so.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && !text.contains('\0')).then(|| Self(text.to_owned()))
    }

    /// The pattern of LIKE, in which nothing that was typed has a meaning of its own.
    fn pattern(&self) -> String {
        let mut pattern = String::from("%");
        for character in self.0.chars() {
            if matches!(character, '%' | '_' | ESCAPE) {
                pattern.push(ESCAPE);
            }
            pattern.push(character);
        }
        pattern.push('%');
        pattern
    }

    fn condition(&self, backend: DbBackend) -> Condition {
        let value = if backend == DbBackend::Postgres { "$1" } else { "?" };
        // Both sides by the engine's own idea of case: SQLite knows that of ASCII alone.
        let like = |column: &str| {
            Expr::cust_with_values(format!("LOWER({column}) LIKE LOWER({value}) ESCAPE '{ESCAPE}'"), [self.pattern()])
        };
        let mut condition = Condition::any().add(like("name")).add(like("external_id"));
        if let Ok(id) = Uuid::try_parse(&self.0) {
            condition = condition.add(organizations::Column::Id.eq(id));
        }
        condition
    }
}

/// Takes the meaning from a character of a pattern. Not the backslash, which some settings of PostgreSQL read in texts.
const ESCAPE: char = '!';

/// What to change of an organization; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct OrganizationUpdate {
    /// For people.
    pub name: Option<String>,
    /// Where its days and months begin.
    pub time_zone: Option<TimeZone>,
    /// What it may do.
    pub status: Option<OrganizationStatus>,
}

impl Store {
    /// Makes an organization with an empty account. [`Conflict::ExternalIdTaken`] if the `external_id` is another's.
    pub async fn create_organization(&self, new: NewOrganization) -> Result<Organization, StoreError> {
        let id = clock::new_uuid();
        let now = self.now().await?;
        let organization = organizations::ActiveModel {
            id: Set(id),
            name: Set(new.name),
            external_id: Set(new.external_id.map(String::from)),
            time_zone: Set(new.time_zone.into()),
            status: Set(OrganizationStatus::Active.as_str().to_owned()),
            created_at: Set(now),
            updated_at: Set(now),
        };
        let account = organization_credits::ActiveModel {
            organization_id: Set(id),
            status: Set(OrganizationStatus::Active.as_str().to_owned()),
            sequence: Set(0),
            last_movement_at: Set(now),
            next_boundary_at: Set(None),
            settled_sequence: Set(0),
            // Every credit column begins at its default, 0.
            ..Default::default()
        };
        let author = self.author();
        in_transaction(self.database(), move |transaction| {
            async move {
                let row = organization.insert(transaction).await.map_err(|error| {
                    if is_unique_violation(&error) { Conflict::ExternalIdTaken.into() } else { StoreError::from(error) }
                })?;
                account.insert(transaction).await?;
                let organization = Organization::try_from(row)?;
                let change = Change {
                    organization_id: Some(organization.id),
                    author,
                    actor: None,
                    operation: AuditOperation::CreateOrganization,
                    subject: organization.id.to_string(),
                    before: None,
                    after: Some(snapshot::organization(&organization)),
                    at: now,
                };
                audit(transaction, change).await?;
                Ok(organization)
            }
            .boxed()
        })
        .await
    }

    /// The organization of that id, or [`Refusal::UnknownOrganization`].
    pub async fn organization(&self, id: OrganizationId) -> Result<Organization, StoreError> {
        let row = organizations::Entity::find_by_id(id.uuid()).one(self.database()).await?;
        Ok(row.ok_or(Refusal::UnknownOrganization)?.try_into()?)
    }

    /// The organization that the customer calls so, if there is one.
    pub async fn organization_by_external_id(
        &self,
        external_id: &ExternalId,
    ) -> Result<Option<Organization>, StoreError> {
        let row = organizations::Entity::find()
            .filter(organizations::Column::ExternalId.eq(external_id.as_str()))
            .one(self.reserved())
            .await?;
        Ok(row.map(Organization::try_from).transpose()?)
    }

    /// The organizations of these ids that there are, in no order.
    pub async fn organizations_of(&self, ids: &[OrganizationId]) -> Result<Vec<Organization>, StoreError> {
        let ids = ids.iter().map(|id| id.uuid());
        let rows =
            organizations::Entity::find().filter(organizations::Column::Id.is_in(ids)).all(self.database()).await?;
        Ok(rows.into_iter().map(Organization::try_from).collect::<Result<_, _>>()?)
    }

    /// All organizations, newest first, or those that a search finds.
    pub async fn organizations(
        &self,
        search: Option<&Search>,
        page: PageRequest<OrganizationId>,
    ) -> Result<Page<Organization, OrganizationId>, StoreError> {
        let mut query = organizations::Entity::find().order_by_desc(organizations::Column::Id);
        if let Some(search) = search {
            query = query.filter(search.condition(self.database().get_database_backend()));
        }
        if let Some(after) = page.after {
            query = query.filter(organizations::Column::Id.lt(after.uuid()));
        }
        let rows = query.limit(page.fetch_limit()).all(self.database()).await?;
        let items = rows.into_iter().map(Organization::try_from).collect::<Result<_, _>>()?;
        Ok(Page::new(items, page.limit, |organization: &Organization| organization.id))
    }

    /// Changes an organization. A change of status takes its turn in the ledger, so that no spending is under way when it
    /// is answered. [`Refusal::OrganizationClosed`] if it is closed, which is for good.
    pub async fn update_organization(
        &self,
        id: OrganizationId,
        update: OrganizationUpdate,
    ) -> Result<Organization, StoreError> {
        let current = self.organization(id).await?;
        if current.status == OrganizationStatus::Closed && (update.name.is_some() || update.time_zone.is_some()) {
            return Err(Refusal::OrganizationClosed.into());
        }
        if let Some(status) = update.status {
            self.set_status(id, status).await?;
        }
        if update.name.is_some() || update.time_zone.is_some() {
            let (clock, author) = (self.clock().clone(), self.author());
            in_transaction(self.database(), move |transaction| {
                describe(transaction, clock, id, update, author).boxed()
            })
            .await?;
        }
        self.organization(id).await
    }
}

/// Changes what an organization is called and where its days begin.
async fn describe(
    transaction: &DatabaseTransaction,
    clock: Clock,
    id: OrganizationId,
    update: OrganizationUpdate,
    author: Option<Arc<Author>>,
) -> Result<(), StoreError> {
    let current = Organization::try_from(lock_organization(transaction, id).await?)?;
    if current.status == OrganizationStatus::Closed {
        return Err(Refusal::OrganizationClosed.into());
    }
    let name = update.name.filter(|name| *name != current.name);
    let time_zone = update.time_zone.filter(|zone| *zone != current.time_zone);
    let (mut before, mut after) = (Map::new(), Map::new());
    if let Some(name) = &name {
        before.insert("name".to_owned(), json!(current.name));
        after.insert("name".to_owned(), json!(name));
    }
    if let Some(time_zone) = &time_zone {
        before.insert("time_zone".to_owned(), json!(current.time_zone));
        after.insert("time_zone".to_owned(), json!(time_zone));
    }
    if after.is_empty() {
        return Ok(());
    }
    let now = now(transaction, &clock).await?;
    let changed = organizations::ActiveModel {
        id: Set(id.uuid()),
        name: name.map_or(NotSet, Set),
        time_zone: time_zone.map_or(NotSet, |zone| Set(zone.into())),
        updated_at: Set(now),
        ..Default::default()
    };
    changed.update(transaction).await?;
    let change = Change {
        organization_id: Some(id),
        author,
        actor: None,
        operation: AuditOperation::UpdateOrganization,
        subject: id.to_string(),
        before: Some(before.into()),
        after: Some(after.into()),
        at: now,
    };
    audit(transaction, change).await
}
