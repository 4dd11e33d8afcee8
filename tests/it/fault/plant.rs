//! Bugs that are planted where one is named, to see that a run finds them.
//!
//! From outside, so that the program carries no switch for bugs: in the database, or by a proxy that changes the text of a
//! statement on its way.

use sea_orm::{ConnectionTrait as _, Database};
use tests::proxy::{Lie, Proxy};

use super::setting;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// What is acknowledged is not on disk yet.
    EarlyAnswer,
    /// No key is ever bound.
    ForgottenKeys,
    /// Accounts are read without being locked.
    SkippedLock,
    /// After a lost connection nothing of the batch is ever found.
    ForgottenDoubt,
    /// Whatever changes the schema keeps all accounts locked meanwhile.
    GreedyMigration,
}

impl Plant {
    /// The one that `MULTICREDIT_FAULT_PLANT` names.
    pub fn wanted() -> Option<Self> {
        match setting("PLANT", String::new()).as_str() {
            "" => None,
            "early_answer" => Some(Self::EarlyAnswer),
            "forgotten_keys" => Some(Self::ForgottenKeys),
            "skipped_lock" => Some(Self::SkippedLock),
            "forgotten_doubt" => Some(Self::ForgottenDoubt),
            "greedy_migration" => Some(Self::GreedyMigration),
            other => panic!("no bug is named {other}"),
        }
    }

    /// What the proxy says instead of what a server asks.
    pub const fn lie(self) -> Option<Lie> {
        match self {
            Self::SkippedLock => Some(Lie { of: " FOR NO KEY UPDATE OF c", instead: "" }),
            // The beginning of every search for a batch.
            Self::ForgottenDoubt => Some(Lie { of: "AND l.id = v.id", instead: "AND l.id = v.id AND false" }),
            Self::EarlyAnswer | Self::ForgottenKeys | Self::GreedyMigration => None,
        }
    }

    const fn sql(self) -> Option<&'static str> {
        match self {
            Self::EarlyAnswer => Some("ALTER DATABASE postgres SET synchronous_commit = off"),
            Self::ForgottenKeys => Some(
                "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
                 CREATE TRIGGER forget BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION forget()",
            ),
            Self::GreedyMigration => Some(
                "CREATE FUNCTION greed() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN \
                 LOCK TABLE organization_credits IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep(4); END'; \
                 CREATE EVENT TRIGGER greed ON ddl_command_start EXECUTE FUNCTION greed()",
            ),
            Self::SkippedLock | Self::ForgottenDoubt => None,
        }
    }
}

/// Plants the bug that is named, in a database that is migrated and behind a proxy.
///
/// Servers that are connected have prepared nothing yet that a lie is about: they have not been asked for anything.
pub async fn plant(url: &str, proxy: Option<&Proxy>) {
    let Some(plant) = Plant::wanted() else { return };
    if let Some(sql) = plant.sql() {
        let connection = Database::connect(url).await.unwrap();
        connection.execute_unprepared(sql).await.unwrap();
        connection.close().await.unwrap();
    }
    if let (Some(lie), Some(proxy)) = (plant.lie(), proxy) {
        proxy.lie(lie);
    }
}
