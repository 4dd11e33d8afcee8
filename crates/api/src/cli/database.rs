//! Opening the database with a schema that this program can work on, the same way for every command.

use anyhow::{Context, bail};
use multicredit_domain::Actor;
use multicredit_store::{Author, Engine, Store, StoreConfig};

use crate::config::{DatabaseArgs, RetentionArgs};

/// Opens the store and sees to its schema.
///
/// SQLite is embedded: there is nobody else who would migrate it, and one process at a time does. A PostgreSQL server
/// may belong to a deployment that migrates with another role at another time, so there it happens only when asked for,
/// and a schema that is behind is refused: no command works on tables that it does not know.
///
/// What `command` changes stands under its name in the audit log.
pub async fn open(args: &DatabaseArgs, command: &str) -> anyhow::Result<Store> {
    open_with(args, args.store_config(), command).await
}

/// The same for a command that does the jobs of the background, and so must know what is to be kept.
pub async fn open_to_maintain(args: &DatabaseArgs, retention: RetentionArgs, command: &str) -> anyhow::Result<Store> {
    let config = StoreConfig { retention_months: retention.months(), ..args.store_config() };
    open_with(args, config, command).await
}

async fn open_with(args: &DatabaseArgs, config: StoreConfig, command: &str) -> anyhow::Result<Store> {
    let store = Store::open(config).await.context("cannot open the database")?;
    match prepare_schema(&store, args.migrate, args.pooler && store.engine() == Engine::Postgres).await {
        Ok(()) => Ok(store.acting_for(author(command)?)),
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

/// The command as the audit log names it: nobody called with a key.
fn author(command: &str) -> anyhow::Result<Author> {
    let actor = Actor::new(format!("multicredit {command}")).context("a command that has no name")?;
    Ok(Author { actor: Some(actor), ..Author::default() })
}

async fn prepare_schema(store: &Store, migrate: bool, pooler: bool) -> anyhow::Result<()> {
    if migrate && pooler {
        bail!("migrations need a session of their own: run `migration up` on a connection past the pooler");
    }
    if migrate || store.engine() == Engine::Sqlite {
        let applied = migration::migrate_up(store.pool()).await.context("cannot migrate the database")?;
        if !applied.is_empty() {
            tracing::info!(applied = applied.len(), "migrated the database");
        }
        return Ok(());
    }
    let reading = "cannot read the database's schema version";
    let transaction = store.begin().await.context(reading)?;
    let pending = migration::pending(&transaction).await;
    transaction.rollback().await.context(reading)?;
    let pending = pending.context(reading)?;
    match pending.as_slice() {
        [] => Ok(()),
        [first, ..] => bail!(
            "the database schema is behind this program by {} migrations, the first being {first}: run `migration up`, \
             or start with --migrate (MULTICREDIT_MIGRATE=true)",
            pending.len()
        ),
    }
}
