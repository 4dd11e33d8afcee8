//! In settling in SQL, each type rolls over by itself.
//!
//! Where an allowance and what rolls over were more than an amount can be of one type, nothing rolled over of any type.
//! What is beyond the range of that type goes, as what finds no room has always gone.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::engine::on_postgres;
use crate::m20261122_000020_consume_credits_rpc::settlement::{allowance_alone, period_credits};

/// Makes the function anew.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Sums of two amounts fit into a bigint, and the room is never more than an amount.
        on_postgres(manager, &period_credits("")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, &period_credits(&allowance_alone())).await
    }
}
