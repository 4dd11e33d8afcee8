//! Settling in SQL leaves an account's `last_movement_at` where it is, if it is later than the movement.
//!
//! A rollup raises it as a fence, behind which nothing may be added any more. A boundary that came before the fence and
//! is settled after it has the earlier instant, and took the fence back with it.

use sea_orm_migration::{MigrationTrait, SchemaManager, prelude::DbErr, sea_orm::DeriveMigrationName};

use crate::helper::engine::on_postgres;
use crate::m20261122_000020_consume_credits_rpc::settlement::record_movement;

/// Makes the function anew.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, &record_movement("GREATEST(account.last_movement_at, instant)")).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        on_postgres(manager, &record_movement("instant")).await
    }
}
