//! The book as it is at this instant: read in one snapshot, settled in memory.
//!
//! A balance row is exact until a boundary comes. So a reader takes the row with everything that is open in one
//! statement, settles the copy, and answers that; whether a background job has run makes no difference. What settling
//! would write is in the book as well: lots that a plan's period has made, and lines of the ledger.

use multicredit_domain::{Account, Book, Grant, Hold, Lot, OrganizationId, Pages, Refusal, Timestamp};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, QueryResult, Statement};

use crate::entity::{credit_draws, credit_grants, credit_holds, organization_credits, subscriptions};
use crate::error::StoreError;
use crate::ledger::{account_columns, subscription_columns, subscription_joins};
use crate::sql::entity_columns;
use crate::store::Store;

/// A book, and what it was read from.
pub(crate) struct SettledBook {
    /// The book, settled to `as_of`.
    pub(crate) book: Book,
    /// The number of the last movement that is stored; later ones are in the book alone.
    pub(crate) stored_sequence: i64,
    /// The instant of which it is true.
    pub(crate) as_of: Timestamp,
}

impl Store {
    /// The organization's book now; [`Refusal::UnknownOrganization`] if there is none.
    pub(crate) async fn settled_book(&self, organization_id: OrganizationId) -> Result<SettledBook, StoreError> {
        let (mut book, clock) = read(self.database(), organization_id).await?;
        let stored_sequence = book.account.sequence;
        let as_of = book.account.instant(self.clock().instant(clock));
        book.settle(as_of)?;
        Ok(SettledBook { book, stored_sequence, as_of })
    }
}

/// The organization's book as it is stored, and what the database's clock shows, if it has one;
/// [`Refusal::UnknownOrganization`] if there is none.
pub(crate) async fn read(
    database: &impl ConnectionTrait,
    organization_id: OrganizationId,
) -> Result<(Book, Option<Timestamp>), StoreError> {
    let rows = database.query_all_raw(statement(database.get_database_backend(), organization_id)).await?;
    let first = rows.first().ok_or(Refusal::UnknownOrganization)?;
    let account = Account::try_from(organization_credits::Model::from_query_result(first, "")?)?;
    Ok((Book::new(account, pages(&rows)?), first.try_get("", "clock")?))
}

/// One row for each open thing of the organization, with the account beside it: all in one statement, for only that is
/// one snapshot. A row has at most one of: an unspent lot (`g_`); a hold (`h_`) with one of its parts (`w_`) and the lot
/// that this came from (`x_`); the subscription (`s_`).
fn statement(backend: DbBackend, organization_id: OrganizationId) -> Statement {
    let (clock, parameter) =
        // The instant at which the statement began, before its snapshot was taken: a later one could be after movements
        // that the snapshot does not have.
        if backend == DbBackend::Postgres { ("statement_timestamp()", "$1") } else { ("CAST(NULL AS TEXT)", "?1") };
    let account = account_columns();
    let sql = format!(
        "SELECT {account}, {clock} AS clock, {lot}, {hold}, {draw}, {drawn}, {subscription} \
         FROM organization_credits c \
         JOIN (SELECT 0 AS part UNION ALL SELECT 1 UNION ALL SELECT 2) AS k ON true \
         LEFT JOIN credit_grants g ON k.part = 0 AND g.organization_id = c.organization_id \
         AND g.state IN ('pending', 'active') \
         LEFT JOIN credit_holds h ON k.part = 1 AND h.organization_id = c.organization_id AND h.state = 'open' \
         LEFT JOIN credit_draws w ON w.organization_id = h.organization_id AND w.sequence = h.sequence \
         LEFT JOIN credit_grants x ON x.organization_id = w.organization_id AND x.id = w.grant_id \
         LEFT JOIN (subscriptions s {joins}) ON k.part = 2 AND s.organization_id = c.organization_id \
         WHERE c.organization_id = {parameter}",
        lot = entity_columns::<credit_grants::Entity>("g", "g_"),
        hold = entity_columns::<credit_holds::Entity>("h", "h_"),
        draw = entity_columns::<credit_draws::Entity>("w", "w_"),
        drawn = entity_columns::<credit_grants::Entity>("x", "x_"),
        subscription = subscription_columns("s_"),
        joins = subscription_joins(),
    );
    Statement::from_sql_and_values(backend, sql, [organization_id.uuid().into()])
}

fn pages(rows: &[QueryResult]) -> Result<Pages, StoreError> {
    let mut pages = Pages::default();
    for row in rows {
        if let Some(lot) = credit_grants::Model::from_query_result_optional(row, "g_")? {
            shelve(&mut pages.lots, Grant::try_from(lot)?.lot);
        }
        if let Some(hold) = credit_holds::Model::from_query_result_optional(row, "h_")? {
            let hold = Hold::try_from(hold)?;
            if pages.holds.iter().all(|other| other.id != hold.id) {
                pages.holds.push(hold);
            }
        }
        if let Some(draw) = credit_draws::Model::from_query_result_optional(row, "w_")? {
            pages.draws.push(draw.into_draw()?.1);
        }
        if let Some(lot) = credit_grants::Model::from_query_result_optional(row, "x_")? {
            shelve(&mut pages.lots, Grant::try_from(lot)?.lot);
        }
        if row.try_get::<Option<uuid::Uuid>>("s_", "organization_id")?.is_some() {
            pages.subscription = Some(subscriptions::read(row, "s_")?);
        }
    }
    Ok(pages)
}

/// A lot may come twice: as an open one, and as one that a hold's part came from.
fn shelve(lots: &mut Vec<Lot>, lot: Lot) {
    if lots.iter().all(|other| other.id != lot.id) {
        lots.push(lot);
    }
}
