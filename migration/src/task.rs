//! What is done to a schema once this process is alone with it, and what can be read of it at any time.

use std::collections::BTreeSet;

use sea_orm_migration::{
    DbErr, IntoSchemaManagerConnection, MigratorTrait, SchemaManager,
    sea_orm::{EntityName, EntityTrait},
    seaql_migrations,
};

use crate::{MigrationError, Migrator, helper::table::drop_table};

/// Where a migration stands in a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has been applied.
    Applied,
    /// This program has it, the database does not.
    Pending,
    /// The database has it, this program does not: another release applied it.
    Unknown,
}

/// A migration and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The migration's name.
    pub name: String,
    /// Where it stands.
    pub state: State,
}

/// Something to do to a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Apply what is pending.
    Up,
    /// Revert the last so many, or all.
    Down(Option<u32>),
    /// Drop everything of ours and apply everything.
    Fresh,
}

impl Task {
    /// Whether there is nothing to do, so that nobody needs to be excluded to do it.
    pub async fn is_done<'c>(self, db: impl IntoSchemaManagerConnection<'c> + Copy) -> Result<bool, DbErr> {
        Ok(self == Self::Up && !steps(db).await?.iter().any(|step| step.state == State::Pending))
    }

    /// Does it and answers the names of the migrations applied (by [`Task::Down`]: reverted), in that order.
    ///
    /// The caller sees to it that nobody else migrates meanwhile.
    ///
    /// # Errors
    ///
    /// [`MigrationError::Unknown`] if the database is another release's and there is something to do.
    pub async fn run<'c>(self, db: impl IntoSchemaManagerConnection<'c> + Copy) -> Result<Vec<String>, MigrationError> {
        match self {
            Self::Up => up(db).await,
            Self::Down(count) => down(db, count).await,
            Self::Fresh => fresh(db).await,
        }
    }
}

/// All migrations of this program in their order, then those only the database knows. Changes nothing: where there is
/// no record of migrations, none has been applied.
pub async fn steps<'c>(db: impl IntoSchemaManagerConnection<'c> + Copy) -> Result<Vec<Step>, DbErr> {
    // One transaction is one snapshot on SQLite, so that the table does not come or go between the two questions.
    let transaction = SchemaManager::new(db).begin().await?;
    let mut recorded = BTreeSet::new();
    if transaction.has_table(seaql_migrations::Entity.table_name()).await? {
        let rows = seaql_migrations::Entity::find().all(transaction.get_connection()).await?;
        recorded.extend(rows.into_iter().map(|row| row.version));
    }
    transaction.commit().await?;

    let mut steps = Vec::new();
    for migration in Migrator::migrations() {
        let name = migration.name().to_owned();
        let state = if recorded.remove(&name) { State::Applied } else { State::Pending };
        steps.push(Step { name, state });
    }
    steps.extend(recorded.into_iter().map(|name| Step { name, state: State::Unknown }));
    Ok(steps)
}

/// The names of the steps in `state`, in their order.
pub fn names(steps: &[Step], state: State) -> Vec<String> {
    steps.iter().filter(|step| step.state == state).map(|step| step.name.clone()).collect()
}

async fn up<'c>(db: impl IntoSchemaManagerConnection<'c> + Copy) -> Result<Vec<String>, MigrationError> {
    let steps = steps(db).await?;
    let pending = names(&steps, State::Pending);
    // A database that only is ahead is left alone: an old replica that restarts while a new release rolls out must
    // come up again.
    if pending.is_empty() {
        return Ok(pending);
    }
    refuse_unknown(&steps)?;
    Migrator::up(db, None).await?;
    Ok(pending)
}

async fn down<'c>(
    db: impl IntoSchemaManagerConnection<'c> + Copy,
    count: Option<u32>,
) -> Result<Vec<String>, MigrationError> {
    let steps = steps(db).await?;
    refuse_unknown(&steps)?;
    let mut reverted = names(&steps, State::Applied);
    let kept = count.map_or(0, |count| reverted.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX)));
    reverted.drain(..kept);
    reverted.reverse();

    if !reverted.is_empty() {
        Migrator::down(db, count).await?;
    }
    if kept == 0 {
        // An empty record of migrations is a table of ours, too.
        drop_table(&SchemaManager::new(db), seaql_migrations::Entity.table_name()).await?;
    }
    Ok(reverted)
}

/// Reverts every migration, recorded or not, since each `down` bears with what is not there: sea-orm's own `fresh`
/// drops every table of the schema, also other people's, and leaves the functions behind.
async fn fresh<'c>(db: impl IntoSchemaManagerConnection<'c> + Copy) -> Result<Vec<String>, MigrationError> {
    refuse_unknown(&steps(db).await?)?;
    let transaction = SchemaManager::new(db).begin().await?;
    for migration in Migrator::migrations().iter().rev() {
        migration.down(&transaction).await?;
    }
    drop_table(&transaction, seaql_migrations::Entity.table_name()).await?;
    transaction.commit().await?;
    up(db).await
}

fn refuse_unknown(steps: &[Step]) -> Result<(), MigrationError> {
    let unknown = names(steps, State::Unknown);
    if unknown.is_empty() { Ok(()) } else { Err(MigrationError::Unknown(unknown)) }
}
