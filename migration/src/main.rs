//! The binary `migration`: brings a database to the schema of this release, by a deployment before the servers start.

use std::{
    fs,
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use migration::State;
use sea_orm_migration::sea_orm::{
    DatabaseConnection,
    sqlx::{
        postgres::{PgConnectOptions, PgPoolOptions},
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};
use tracing_subscriber::EnvFilter;

/// What is logged (to stderr) unless `RUST_LOG` says otherwise: the migrations, but not their statements.
const DEFAULT_LOG_FILTER: &str = "info,sqlx=warn";

/// Creates, changes and inspects the database schema of multicredit.
///
/// Safe to run from many places at once: one of them migrates, the others wait and find nothing left to do. On
/// PostgreSQL connect directly, not through a transaction pooler.
#[derive(Debug, Parser)]
#[command(
    name = "migration",
    version,
    after_help = "Example:\n  DATABASE_URL=postgres://localhost/multicredit migration up"
)]
struct Cli {
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite://data/multicredit.db?mode=rwc",
        hide_env_values = true,
        help = "The database: sqlite://PATH?mode=rwc or postgres://USER:PASSWORD@HOST/NAME",
        global = true
    )]
    database_url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply every migration that is pending
    #[command(after_help = "Example:\n  migration up --database-url 'sqlite://data/multicredit.db?mode=rwc'")]
    Up,
    /// Revert the last migrations, and lose what their tables held
    #[command(after_help = "Example:\n  migration down 2")]
    Down {
        /// How many
        #[arg(default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        steps: u32,
        /// All of them, which leaves nothing of multicredit in the database
        #[arg(long, conflicts_with = "steps")]
        all: bool,
    },
    /// List the migrations and where they stand; changes nothing
    #[command(after_help = "Example:\n  migration status")]
    Status,
    /// Drop everything of multicredit, ALL DATA INCLUDED, and migrate up again
    #[command(after_help = "Example:\n  migration fresh --database-url postgres://localhost/multicredit_dev")]
    Fresh,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();

    let db = connect(&cli.database_url).await?;
    let outcome = execute(&db, cli.command).await;
    outcome.and(db.close().await.context("closing the database failed"))
}

async fn execute(db: &DatabaseConnection, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Up => report("applied", &migration::migrate_up(db).await?),
        Command::Down { steps, all } => {
            report("reverted", &migration::down(db, (!all).then_some(steps)).await?);
        }
        Command::Status => {
            for step in migration::status(db).await? {
                println!("{:<8} {}", state_name(step.state), step.name);
            }
        }
        Command::Fresh => report("applied", &migration::fresh(db).await?),
    }
    Ok(())
}

fn report(what_happened: &str, names: &[String]) {
    if names.is_empty() {
        println!("nothing to do");
    }
    for name in names {
        println!("{what_happened} {name}");
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Applied => "applied",
        State::Pending => "pending",
        State::Unknown => "unknown",
    }
}

/// Opens a database of one connection.
///
/// Not through sea-orm's `Database::connect`, whose errors repeat the URL and with it the password.
async fn connect(url: &str) -> anyhow::Result<DatabaseConnection> {
    if url.starts_with("sqlite:") {
        let options: SqliteConnectOptions = url.parse().context("DATABASE_URL is no valid SQLite URL")?;
        create_parent_folder(options.get_filename())?;
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
        Ok(pool.context("opening the SQLite database failed")?.into())
    } else if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        let options: PgConnectOptions = url.parse().context("DATABASE_URL is no valid PostgreSQL URL")?;
        let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await;
        Ok(pool.context("connecting to PostgreSQL failed")?.into())
    } else {
        bail!("DATABASE_URL must begin with sqlite: or postgres:")
    }
}

/// SQLite makes the file, but not the folder it is to be in.
fn create_parent_folder(file: &Path) -> anyhow::Result<()> {
    match file.parent() {
        Some(folder) => fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
