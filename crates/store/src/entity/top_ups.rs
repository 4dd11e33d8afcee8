//! `top_ups`: requests for credits, and their answers.

use multicredit_domain::{Amount, CreditType, GrantId, TopUp, TopUpId, TopUpState};
use sea_orm::entity::prelude::*;

use crate::error::BadRow;

const TABLE: &str = "top_ups";

/// A row of `top_ups`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "top_ups")]
pub struct Model {
    /// Whose.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The type of credits that are asked for.
    pub credit_type: String,
    /// How many are asked for.
    pub amount: i64,
    /// `requested`, `granted` or `timed_out`; that the time is over may not be written yet.
    pub state: String,
    /// When it was made.
    pub requested_at: DateTimeUtc,
    /// Until when an answer was waited for.
    pub expires_at: DateTimeUtc,
    /// The answer.
    pub grant_id: Option<Uuid>,
    /// When it came.
    pub granted_at: Option<DateTimeUtc>,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl TryFrom<Model> for TopUp {
    type Error = BadRow;

    fn try_from(row: Model) -> Result<Self, BadRow> {
        let bad = |column| BadRow { table: TABLE, column };
        Ok(Self {
            id: TopUpId::new(row.id),
            credit_type: CreditType::from_name(&row.credit_type).ok_or(bad("credit_type"))?,
            amount: Amount::new(row.amount).map_err(|_| bad("amount"))?,
            state: TopUpState::from_name(&row.state).ok_or(bad("state"))?,
            requested_at: row.requested_at,
            expires_at: row.expires_at,
            granted: row.grant_id.map(GrantId::new).zip(row.granted_at),
        })
    }
}
