//! The three indexes of the consumption log that the performance report defines, on the parent, so that every
//! partition has them.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{Condition, ConditionalStatement, DbErr, Expr, ExprTrait, Index, IndexCreateStatement, IndexOrder},
    sea_orm::DeriveMigrationName,
};

use crate::helper::credits::{CREDIT_TYPES, credit_column};

const TABLE: &str = "credit_consumption_logs";
const ORGANIZATION_AND_DATE: &str = "idx_credits_txn_org_date_composite";
const SUCCESS: &str = "idx_credits_txn_success";
const MULTI_CREDIT: &str = "idx_credits_txn_multi_credit";

/// Makes the three indexes.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for index in [organization_and_date(), success(), multi_credit()] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for name in [ORGANIZATION_AND_DATE, SUCCESS, MULTI_CREDIT] {
            manager.drop_index(Index::drop().name(name).if_exists().to_owned()).await?;
        }
        Ok(())
    }
}

fn organization_and_date() -> IndexCreateStatement {
    Index::create()
        .name(ORGANIZATION_AND_DATE)
        .table(TABLE)
        .col("organization_id")
        .col(("created_at", IndexOrder::Desc))
        .take()
}

fn success() -> IndexCreateStatement {
    Index::create()
        .name(SUCCESS)
        .table(TABLE)
        .col("success")
        .col(("created_at", IndexOrder::Desc))
        .and_where(Expr::col("success").eq(true))
        .take()
}

fn multi_credit() -> IndexCreateStatement {
    let mut index = Index::create().name(MULTI_CREDIT).table(TABLE).take();
    let mut consumes_anything = Condition::any();
    for credit_type in CREDIT_TYPES {
        let column = credit_column(credit_type, "consumed");
        index.col(column.clone());
        consumes_anything = consumes_anything.add(Expr::col(column).gt(0));
    }
    index.cond_where(consumes_anything).take()
}
