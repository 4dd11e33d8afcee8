//! `credit_draws`: what a settlement, a hold or a capture took from each lot.

use multicredit_domain::{Draw, GrantId, OrganizationId};
use sea_orm::entity::prelude::*;

use crate::entity::credits;
use crate::error::BadRow;

const TABLE: &str = "credit_draws";

/// A row of `credit_draws`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "credit_draws")]
pub struct Model {
    /// Whose credits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub organization_id: Uuid,
    /// The last movement that it covers.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    /// The lot.
    #[sea_orm(primary_key, auto_increment = false)]
    pub grant_id: Uuid,
    /// What was taken.
    pub ai_credits_drawn: i64,
    /// What was taken.
    pub whatsapp_credits_drawn: i64,
    /// What was taken.
    pub email_credits_drawn: i64,
    /// What was taken.
    pub sms_credits_drawn: i64,
    /// What of that was given back, or passed to another draw.
    pub ai_credits_returned: i64,
    /// What of that was given back.
    pub whatsapp_credits_returned: i64,
    /// What of that was given back.
    pub email_credits_returned: i64,
    /// What of that was given back.
    pub sms_credits_returned: i64,
}

/// No relation is followed by the ORM.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Whose draw, and the draw.
    pub(crate) fn into_draw(self) -> Result<(OrganizationId, Draw), BadRow> {
        let drawn =
            [self.ai_credits_drawn, self.whatsapp_credits_drawn, self.email_credits_drawn, self.sms_credits_drawn];
        let returned = [
            self.ai_credits_returned,
            self.whatsapp_credits_returned,
            self.email_credits_returned,
            self.sms_credits_returned,
        ];
        let draw = Draw {
            sequence: self.sequence,
            grant_id: GrantId::new(self.grant_id),
            drawn: credits(drawn, TABLE, "drawn")?,
            returned: credits(returned, TABLE, "returned")?,
        };
        Ok((OrganizationId::new(self.organization_id), draw))
    }
}
