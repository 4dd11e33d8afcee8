//! The index of boundaries, by which the background sweep finds the accounts where one has come.
//!
//! It is no obstacle to the HOT updates that the table is made for: spending leaves `next_boundary_at` as it is, and
//! PostgreSQL compares the values and not which columns a statement sets. What does move the boundary (a grant, a void,
//! a hold and its end, a settlement) is rare beside spending, and pays for the entry in this small index.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{ConditionalStatement, DbErr, Expr, ExprTrait, Index},
    sea_orm::DeriveMigrationName,
};

const INDEX: &str = "idx_organization_credits_due";

/// Makes the index.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_index(
                Index::create()
                    .name(INDEX)
                    .table("organization_credits")
                    .col("next_boundary_at")
                    .and_where(Expr::col("next_boundary_at").is_not_null())
                    .take(),
            )
            .await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().name(INDEX).if_exists().to_owned()).await
    }
}
