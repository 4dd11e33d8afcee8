//! The starting catalogue: eight actions, so that a new installation can consume something at once. Users edit them.

use sea_orm_migration::{
    MigrationTrait, SchemaManager,
    prelude::{DbErr, Expr, ExprTrait, OnConflict, Query},
    sea_orm::{DeriveMigrationName, prelude::DateTimeUtc},
};

use crate::helper::credits::{CREDIT_TYPES, credit_column};

const ACTIONS: &str = "credit_actions";
const VERSIONS: &str = "credit_action_versions";

/// The version this migration installs; later ones are the users'.
const FIRST_VERSION: i32 = 1;

/// 2026-01-01T00:00:00Z: before any installation of this schema, so that the prices are in force from its first
/// instant, and fixed, so that every installation has the same rows.
const IN_FORCE_SINCE: DateTimeUtc = DateTimeUtc::from_timestamp(1_767_225_600, 0).expect("a time that exists");

/// An action of the starting catalogue.
struct Entry {
    action_type: &'static str,
    description: &'static str,
    /// What one unit costs, in the order of [`CREDIT_TYPES`].
    cost: [i64; CREDIT_TYPES.len()],
    unit_size: i64,
}

const CATALOGUE: [Entry; 8] = [
    Entry { action_type: "ai_chat", description: "One message to the AI chat", cost: [1, 0, 0, 0], unit_size: 1 },
    Entry {
        action_type: "ai_tokens",
        description: "Tokens of a language model, by the thousand begun",
        cost: [1, 0, 0, 0],
        unit_size: 1000,
    },
    Entry { action_type: "ai_image", description: "One image made by AI", cost: [5, 0, 0, 0], unit_size: 1 },
    Entry { action_type: "whatsapp_message", description: "One WhatsApp message", cost: [0, 1, 0, 0], unit_size: 1 },
    Entry {
        action_type: "whatsapp_ai_reply",
        description: "One WhatsApp message written by AI",
        cost: [1, 1, 0, 0],
        unit_size: 1,
    },
    Entry { action_type: "email", description: "One email", cost: [0, 0, 1, 0], unit_size: 1 },
    Entry { action_type: "email_ai_draft", description: "One email written by AI", cost: [1, 0, 1, 0], unit_size: 1 },
    Entry { action_type: "sms", description: "One SMS", cost: [0, 0, 0, 1], unit_size: 1 },
];

/// Installs the starting catalogue.
#[derive(DeriveMigrationName)]
pub struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for entry in &CATALOGUE {
            install(manager, entry).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // `fresh` runs every `down`, and without the tables there is nothing to take out.
        if manager.has_table(VERSIONS).await? {
            for entry in &CATALOGUE {
                remove(manager, entry.action_type).await?;
            }
        }
        Ok(())
    }
}

/// Installs an entry. One that is there already, because [`remove`] left what users had edited, stays as it is.
async fn install(manager: &SchemaManager<'_>, entry: &Entry) -> Result<(), DbErr> {
    manager
        .execute(
            Query::insert()
                .into_table(ACTIONS)
                .columns(["action_type", "latest_version", "created_at", "updated_at"])
                .values_panic([
                    entry.action_type.into(),
                    FIRST_VERSION.into(),
                    IN_FORCE_SINCE.into(),
                    IN_FORCE_SINCE.into(),
                ])
                .on_conflict(OnConflict::column("action_type").do_nothing().to_owned())
                .take(),
        )
        .await?;

    let mut version = Query::insert();
    version.into_table(VERSIONS);
    let columns = ["action_type", "version", "unit_size", "description", "active", "effective_at", "created_at"];
    version.columns(columns.map(String::from).into_iter().chain(CREDIT_TYPES.map(|name| credit_column(name, "cost"))));
    let values = [
        entry.action_type.into(),
        FIRST_VERSION.into(),
        entry.unit_size.into(),
        entry.description.into(),
        true.into(),
        IN_FORCE_SINCE.into(),
        IN_FORCE_SINCE.into(),
    ];
    version.values_panic(values.into_iter().chain(entry.cost.map(Expr::value)));
    version.on_conflict(OnConflict::columns(["action_type", "version"]).do_nothing().to_owned());
    manager.execute(version).await
}

/// Takes out what [`install`] put in, unless users gave the action later versions: then all of its history stays.
async fn remove(manager: &SchemaManager<'_>, action_type: &'static str) -> Result<(), DbErr> {
    let edited =
        Query::select().column("action_type").from(VERSIONS).and_where(Expr::col("version").gt(FIRST_VERSION)).take();
    for table in [VERSIONS, ACTIONS] {
        manager
            .execute(
                Query::delete()
                    .from_table(table)
                    .and_where(Expr::col("action_type").eq(action_type))
                    .and_where(Expr::col("action_type").not_in_subquery(edited.clone()))
                    .take(),
            )
            .await?;
    }
    Ok(())
}
