//! The one place that reads configuration.
//!
//! Every setting is a flag and an environment variable of the same meaning, the flag winning; nothing else in the
//! program looks at either. So `--help` is the complete list, and what is not here cannot be set. Values are only
//! parsed here: whether they make sense together with a database is the business of the command that gets them.

mod report;
mod value;

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, RangedU64ValueParser};
use clap::{Args, Parser, Subcommand, value_parser};
use multicredit_domain::webhook::Network;
use multicredit_domain::{ApiKeyId, Credits};
use multicredit_store::{RETENTION_MONTHS_MIN, Scope, StoreConfig};

use self::value::{OPENING_EXAMPLE, parse_opening, parse_scope, parse_seconds};
use crate::auth::token::{Source, TokenSettings};
use crate::background::Schedule;
use crate::limits::{CONNECTIONS_DEFAULT, WEBHOOK_RATE_DEFAULT, WEBHOOK_RATE_MIN};
use crate::shutdown;

pub use self::report::{ReportArgs, ReportSchedule, Since, ThresholdArgs};
pub use self::value::{BenchEngine, InputFormat, LogFormat, MetricsAccess, OutputFormat, ReportFormat, Secret};

/// Where the credits are kept when nobody says: a file below the working directory, made on first use.
pub const DEFAULT_DATABASE_URL: &str = "sqlite://data/multicredit.db?mode=rwc";

/// Where the server listens when nobody says: reachable from this machine alone.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";

/// Where `serve --demo` keeps the admin key when nobody says.
pub const DEFAULT_DATA_DIR: &str = "data";

/// Our own doings, and the warnings of everything underneath.
pub const DEFAULT_LOG: &str = "warn,multicredit=info,migration=info";

/// The most connections that may be asked for: more than any one PostgreSQL server takes.
const CONNECTIONS_MAX: i64 = 10_000;

/// The most writers that may be asked for: far more than ever were faster than a few.
const WRITERS_MAX: u64 = 64;

/// The longest that a statement may take, in milliseconds: a day.
const STATEMENT_TIMEOUT_MS_MAX: u64 = 86_400_000;

/// Prepaid, multi-type credits for organizations, served over HTTP.
///
/// Without a command it serves, with the options below; each command has its own --help.
#[derive(Debug, Parser)]
#[command(
    name = "multicredit",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Example: the embedded database, with an organization to try things on\n  multicredit --demo"
)]
pub struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The command that was asked for; serving is what no command means.
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// What the program can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the HTTP API
    ///
    /// On SQLite the schema is migrated first. On PostgreSQL it is with --migrate; otherwise a schema that is behind is
    /// refused. SIGTERM and SIGINT end it gracefully: what has been accepted is answered, within 25 seconds.
    #[command(
        verbatim_doc_comment,
        after_help = "Example: PostgreSQL, reachable from other machines\n  \
        DATABASE_URL=postgres://multicredit:secret@db/multicredit multicredit serve --migrate --listen 0.0.0.0:8080"
    )]
    Serve(ServeArgs),
    /// Charge usage from a file of CloudEvents (NDJSON) or CSV
    ///
    /// Each line is charged once however often it is imported, so that an import that ended early is simply run again.
    /// It can run beside servers.
    ///
    /// NDJSON is one `CloudEvent` a line, as POST /v1/events takes it, with any `time` in the past. CSV begins with a
    /// header that names the columns organization (an external id), action and `idempotency_key`, and if wanted quantity
    /// (else 1) and `occurred_at` (RFC 3339), in any order; `idempotency_key` is that of the header Idempotency-Key.
    #[command(verbatim_doc_comment, after_help = format!("Example: usage of organizations that may not exist yet\n  \
        multicredit import usage.ndjson --create-missing {OPENING_EXAMPLE}\n\n\
        What is counted:\n  \
        accepted  charged now\n  \
        replayed  had been charged before, nothing happened\n  \
        refused   the organization lacked credits, or is frozen or closed; can be imported again later\n  \
        invalid   cannot be charged as it stands; each is named on stderr with its line and what is wrong\n\n\
        Exit codes:\n  \
        0  everything was read, and no line was invalid\n  \
        1  it ended early; what was charged stays charged, run it again\n  \
        2  the command line was wrong\n  \
        3  everything was read, and some lines were invalid"))]
    Import(ImportArgs),
    /// Check every invariant of the ledger
    ///
    /// All of it is read in one snapshot, beside servers that are at work.
    #[command(after_help = "Example: one JSON object for a monitor\n  multicredit verify --format json\n\n\
        Exit codes:\n  \
        0  everything holds; warnings are allowed\n  \
        1  something is violated, or the check could not be made\n  \
        2  the command line was wrong")]
    Verify(VerifyArgs),
    /// Do now what a server does in the background from time to time
    ///
    /// Rolls usage up, makes the summary anew, makes the partitions of the months to come, deletes the idempotency keys
    /// whose days are over, and vacuums the tables that need it. It can run beside servers: what one of them is doing at
    /// this moment is left to it.
    #[command(
        verbatim_doc_comment,
        after_help = "Example: what there is to do, without doing it\n  multicredit maintain --dry-run\n\n\
        Exit codes:\n  \
        0  everything is done\n  \
        1  something failed; the rest is done\n  \
        2  the command line was wrong"
    )]
    Maintain(MaintainArgs),
    /// Measure how the database is, and judge it
    ///
    /// Indexes, critical queries with their plans and times, the latency of consumption, tables, caches and connections,
    /// with a grade and what to do. What has to be tried is tried on a scratch organization, and rolled back.
    #[command(after_help = "Example: a page to file, compared with the one before\n  \
        multicredit report --format markdown --since last --save\n\n\
        Exit codes:\n  \
        0  it could be measured, whatever the grade\n  \
        1  it could not\n  \
        2  the command line was wrong")]
    Report(ReportArgs),
    /// Make, list and revoke API keys
    #[command(after_help = "Example: a key that can only consume\n  \
        multicredit keys create --name checkout --scopes consume")]
    Keys(KeysArgs),
    /// Measure rates and latencies, side by side with what they are compared with
    ///
    /// Starts a throwaway PostgreSQL from the installed programs, with durable commits, and servers on it and on a
    /// throwaway SQLite file; all of it is gone afterwards. What counts are the ratios: rates depend on the machine, and
    /// on what else it does. Takes about ten minutes.
    #[command(after_help = "Example: a quick look at consuming, and at what it is compared with\n  \
        multicredit bench --engine postgres --rounds 1 --only nothing,consume,seed\n\n\
        Exit codes:\n  \
        0  every answer was right and every database as it should be, whatever the ratios\n  \
        1  something was wrong, or could not be measured\n  \
        2  the command line was wrong")]
    Bench(BenchArgs),
    /// Print the OpenAPI document of the HTTP API
    #[command(after_help = "Example: a client's input, without a server\n  multicredit openapi > openapi.json")]
    Openapi(OpenapiArgs),
}

impl Command {
    /// How this command logs.
    pub fn log(&self) -> &LogArgs {
        match self {
            Self::Serve(args) => &args.log,
            Self::Import(args) => &args.log,
            Self::Verify(args) => &args.log,
            Self::Maintain(args) => &args.log,
            Self::Report(args) => &args.log,
            Self::Keys(args) => args.command.log(),
            Self::Bench(args) => &args.log,
            Self::Openapi(args) => &args.log,
        }
    }
}

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 picks a free one and prints it
    #[arg(long, env = "MULTICREDIT_LISTEN", default_value = DEFAULT_LISTEN, value_name = "HOST:PORT")]
    pub listen: String,
    /// An API key with scope admin, registered at start: 32 to 255 visible ASCII characters
    ///
    /// Better in the environment than on the command line, which every user of the machine can see. Without one, and
    /// with no admin key in the database, one is made and printed once.
    #[arg(long, env = "MULTICREDIT_ADMIN_KEY", hide_env_values = true, value_name = "KEY", verbatim_doc_comment)]
    pub admin_key: Option<Secret>,
    /// How long to go on serving after SIGTERM while /health/ready says no, for load balancers that ask it
    #[arg(
        long,
        env = "MULTICREDIT_SHUTDOWN_DELAY_MS",
        default_value_t = 0,
        value_name = "MS",
        value_parser = value_parser!(u64).range(0..=shutdown::DELAY_MS_MAX)
    )]
    pub shutdown_delay_ms: u64,
    /// Who may see /metrics
    #[arg(long, env = "MULTICREDIT_METRICS", value_enum, default_value_t = MetricsAccess::Open, value_name = "WHO")]
    pub metrics: MetricsAccess,
    /// How many connections are served at once; beyond that they are answered 503 and closed
    #[arg(long, env = "MULTICREDIT_CONNECTIONS_MAX", default_value_t = CONNECTIONS_DEFAULT, value_name = "CONNECTIONS")]
    pub connections_max: NonZeroU32,
    /// How many requests a second an API key may send to this process; 0 is as many as it likes
    #[arg(long, env = "MULTICREDIT_KEY_RATE_LIMIT", default_value_t = 0, value_name = "REQUESTS")]
    pub key_rate_limit: u32,
    /// How many requests a second an organization may get in this process, of whatever keys; 0 is any number
    ///
    /// Items of batch calls count one by one.
    #[arg(
        long,
        env = "MULTICREDIT_ORGANIZATION_RATE_LIMIT",
        default_value_t = 0,
        value_name = "REQUESTS",
        verbatim_doc_comment
    )]
    pub organization_rate_limit: u32,
    /// How often to save a performance report, to compare later ones with it
    #[arg(long, env = "MULTICREDIT_REPORT_SCHEDULE", value_enum, default_value_t = ReportSchedule::Monthly, value_name = "WHEN")]
    pub report_schedule: ReportSchedule,
    /// What is worth a word in it.
    #[command(flatten)]
    pub thresholds: ThresholdArgs,
    /// Make a demo organization with credits, keep an admin key in the data folder, and print a command to try
    #[arg(long, env = "MULTICREDIT_DEMO", value_parser = BoolishValueParser::new())]
    pub demo: bool,
    /// The folder in which --demo keeps the admin key, in the file admin-key
    #[arg(long, env = "MULTICREDIT_DATA_DIR", default_value = DEFAULT_DATA_DIR, value_name = "FOLDER")]
    pub data_dir: PathBuf,
    /// The jobs of the background.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
    /// Webhooks.
    #[command(flatten)]
    pub webhooks: WebhookArgs,
    /// Signed tokens of users.
    #[command(flatten)]
    pub tokens: Box<TokenArgs>,
    /// What is kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the file holds [default: by its extension: .ndjson or .jsonl, .csv; NDJSON on standard input]
    #[arg(long, env = "MULTICREDIT_INPUT_FORMAT", value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// Make organizations that do not exist, named by their external id, and grant each these credits once
    #[arg(long, env = "MULTICREDIT_CREATE_MISSING", value_name = "TYPE=AMOUNT,...", value_parser = parse_opening)]
    pub create_missing: Option<Credits>,
    /// How the counts are printed.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// How the verdicts are printed.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `maintain`.
#[derive(Debug, Args)]
pub struct MaintainArgs {
    /// Say what there is to do and change nothing
    #[arg(long, env = "MULTICREDIT_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// What is kept.
    #[command(flatten)]
    pub retention: RetentionArgs,
    /// How the outcome is printed.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    /// What to do with keys.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// What `keys` can be asked to do.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, the only time it can be seen
    #[command(after_help = "Example: a key of one organization, which sees nothing else\n  \
        multicredit keys create --name acme-dashboard --scopes read --organization acme")]
    Create(CreateKeyArgs),
    /// List the keys, newest first, without the secrets
    #[command(after_help = "Example: the keys bound to one organization\n  multicredit keys list --organization acme")]
    List(ListKeysArgs),
    /// Revoke a key for good
    #[command(after_help = "Example: by the id that `keys list` shows\n  \
        multicredit keys revoke 01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f")]
    Revoke(RevokeKeyArgs),
}

impl KeysCommand {
    fn log(&self) -> &LogArgs {
        match self {
            Self::Create(args) => &args.log,
            Self::List(args) => &args.log,
            Self::Revoke(args) => &args.log,
        }
    }
}

/// Options of `keys create`.
#[derive(Debug, Args)]
pub struct CreateKeyArgs {
    /// What the key is for, in words for people
    #[arg(long, env = "MULTICREDIT_KEY_NAME")]
    pub name: String,
    /// What it may do: read, consume, credit, admin
    #[arg(
        long,
        env = "MULTICREDIT_KEY_SCOPES",
        required = true,
        value_delimiter = ',',
        value_name = "SCOPE,...",
        value_parser = parse_scope
    )]
    pub scopes: Vec<Scope>,
    /// Bind it to one organization, given by id or external id
    #[arg(long, env = "MULTICREDIT_KEY_ORGANIZATION", value_name = "ORGANIZATION")]
    pub organization: Option<String>,
    /// How the key is printed.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `keys list`.
#[derive(Debug, Args)]
pub struct ListKeysArgs {
    /// Only keys bound to this organization, given by id or external id
    #[arg(long, env = "MULTICREDIT_KEY_ORGANIZATION", value_name = "ORGANIZATION")]
    pub organization: Option<String>,
    /// How the list is printed.
    #[command(flatten)]
    pub output: OutputArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `keys revoke`.
#[derive(Debug, Args)]
pub struct RevokeKeyArgs {
    /// The key's id (not the key itself)
    #[arg(value_name = "ID")]
    pub id: ApiKeyId,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to measure on
    #[arg(long, env = "MULTICREDIT_BENCH_ENGINE", value_enum, default_value_t = BenchEngine::All)]
    pub engine: BenchEngine,
    /// Clients, in the rows with many
    #[arg(
        long,
        env = "MULTICREDIT_BENCH_CLIENTS",
        default_value_t = 64,
        value_name = "N",
        value_parser = value_parser!(u16).range(1..=1024)
    )]
    pub clients: u16,
    /// Organizations, in the rows with many
    #[arg(
        long,
        env = "MULTICREDIT_BENCH_ORGANIZATIONS",
        default_value_t = 10_000,
        value_name = "N",
        value_parser = value_parser!(u32).range(1..=1_000_000)
    )]
    pub organizations: u32,
    /// Measure what depends on history instead, on PostgreSQL: with that many rows in the log, and with a hundredth
    #[arg(
        long,
        env = "MULTICREDIT_BENCH_HISTORY",
        value_name = "ROWS",
        conflicts_with = "engine",
        value_parser = value_parser!(u64).range(1_000..=1_000_000_000)
    )]
    pub history: Option<u64>,
    /// How often everything is measured; the median counts
    #[arg(
        long,
        env = "MULTICREDIT_BENCH_ROUNDS",
        default_value_t = 3,
        value_name = "N",
        value_parser = value_parser!(u32).range(1..=100)
    )]
    pub rounds: u32,
    /// How long each row is measured in a round
    #[arg(
        long,
        env = "MULTICREDIT_BENCH_SECONDS",
        default_value_t = 4.0,
        value_name = "SECONDS",
        value_parser = parse_seconds
    )]
    pub seconds: f64,
    /// Only the rows whose names (as in JSON) contain one of these
    #[arg(long, env = "MULTICREDIT_BENCH_ONLY", value_delimiter = ',', value_name = "PART,...")]
    pub only: Vec<String>,
    /// How the result is printed on standard output
    #[arg(long, env = "MULTICREDIT_FORMAT", value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// A PostgreSQL server to use instead of a throwaway one, as a role that may create databases
    ///
    /// Databases of its own are made and dropped there; the one that the URL names is left alone.
    #[arg(
        long,
        env = "MULTICREDIT_BENCH_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        verbatim_doc_comment
    )]
    pub database_url: Option<Secret>,
    /// The folder of PostgreSQL's programs (initdb, postgres, pgbench) [default: where they are usually found]
    #[arg(long, env = "MULTICREDIT_POSTGRES_BIN", value_name = "FOLDER")]
    pub postgres_bin: Option<PathBuf>,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `openapi`.
#[derive(Debug, Args)]
pub struct OpenapiArgs {
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of whatever prints a result.
#[derive(Debug, Clone, Args)]
pub struct OutputArgs {
    /// How the result is printed on standard output
    #[arg(long, env = "MULTICREDIT_FORMAT", value_enum, default_value_t = OutputFormat::Text)]
    pub format: OutputFormat,
}

/// Options of whatever uses the database.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseArgs {
    /// Where the credits are: `sqlite://PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, default_value = DEFAULT_DATABASE_URL, value_name = "URL")]
    pub database_url: Secret,
    /// Where the second level of the caches is: `redis://HOST` or `rediss://HOST`; without it, caches are in memory alone
    ///
    /// All servers of a database should name the same one. It decides nothing: without it balances are read anew each time.
    #[arg(long, env = "REDIS_URL", hide_env_values = true, value_name = "URL")]
    pub redis_url: Option<Secret>,
    /// Bring the schema up to date first; on SQLite that happens anyway
    #[arg(long, env = "MULTICREDIT_MIGRATE", value_parser = BoolishValueParser::new())]
    pub migrate: bool,
    /// The most database connections for reads
    ///
    /// Two more are kept for what must be looked up before anybody can spend, and movements of credits have their own, see
    /// `--writers`.
    #[arg(
        long,
        env = "MULTICREDIT_MAX_CONNECTIONS",
        default_value_t = StoreConfig::DEFAULT_MAX_CONNECTIONS,
        value_name = "N",
        value_parser = value_parser!(u32).range(1..=CONNECTIONS_MAX)
    )]
    pub max_connections: u32,
    /// How many writers move credits at once, each with a database connection of its own; SQLite takes one
    ///
    /// On PostgreSQL one more takes half of each large batch.
    #[arg(
        long,
        env = "MULTICREDIT_WRITERS",
        default_value_t = StoreConfig::DEFAULT_WRITERS,
        value_name = "N",
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=WRITERS_MAX)
    )]
    pub writers: usize,
    /// How long a read waits for a connection before it is refused
    #[arg(
        long,
        env = "MULTICREDIT_ACQUIRE_TIMEOUT_MS",
        default_value_t = default_acquire_timeout_ms(),
        value_name = "MS",
        value_parser = value_parser!(u64).range(1..)
    )]
    pub acquire_timeout_ms: u64,
    /// How long PostgreSQL may work on one statement of a read before it is cancelled
    #[arg(
        long,
        env = "MULTICREDIT_STATEMENT_TIMEOUT_MS",
        default_value_t = default_statement_timeout_ms(),
        value_name = "MS",
        value_parser = value_parser!(u64).range(1..=STATEMENT_TIMEOUT_MS_MAX)
    )]
    pub statement_timeout_ms: u64,
    /// PostgreSQL is behind a pooler in transaction mode, such as pgbouncer
    #[arg(long, env = "MULTICREDIT_POOLER", value_parser = BoolishValueParser::new())]
    pub pooler: bool,
}

fn default_statement_timeout_ms() -> u64 {
    u64::try_from(StoreConfig::DEFAULT_STATEMENT_TIMEOUT.as_millis()).unwrap_or(u64::MAX)
}

fn default_acquire_timeout_ms() -> u64 {
    u64::try_from(StoreConfig::DEFAULT_ACQUIRE_TIMEOUT.as_millis()).unwrap_or(u64::MAX)
}

impl DatabaseArgs {
    /// The same, as the store takes it.
    pub fn store_config(&self) -> StoreConfig {
        StoreConfig {
            max_connections: self.max_connections,
            acquire_timeout: Duration::from_millis(self.acquire_timeout_ms),
            writers: self.writers,
            statement_timeout: Duration::from_millis(self.statement_timeout_ms),
            pooler: self.pooler,
            redis_url: self.redis_url.as_ref().map(|url| url.expose().to_owned()),
            ..StoreConfig::new(self.database_url.expose())
        }
    }
}

/// How often a server does its jobs of the background: one process at a time, however many serve.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Background jobs")]
pub struct ScheduleArgs {
    /// How often usage is rolled up; reports are exact whenever that is
    #[arg(
        long,
        env = "MULTICREDIT_ROLL_UP_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = value_parser!(u64).range(1..)
    )]
    pub roll_up_seconds: u64,
    /// How often the summary of usage is made anew
    #[arg(
        long,
        env = "MULTICREDIT_REFRESH_SECONDS",
        default_value_t = 60,
        value_name = "SECONDS",
        value_parser = value_parser!(u64).range(1..)
    )]
    pub refresh_seconds: u64,
    /// How often partitions, idempotency keys, old history and dead rows are seen to
    #[arg(
        long,
        env = "MULTICREDIT_MAINTAIN_SECONDS",
        default_value_t = 3600,
        value_name = "SECONDS",
        value_parser = value_parser!(u64).range(1..)
    )]
    pub maintain_seconds: u64,
}

impl ScheduleArgs {
    /// The same, as the background takes it.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            roll_up: Duration::from_secs(self.roll_up_seconds),
            refresh: Duration::from_secs(self.refresh_seconds),
            maintain: Duration::from_secs(self.maintain_seconds),
        }
    }
}

/// How much history is kept.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// How many months of consumptions are kept beside the present one, 2 at least; 0 keeps everything. What is older is
    /// dropped for good: balances, reports and everything but the single consumptions stay
    #[arg(
        long,
        env = "MULTICREDIT_RETENTION_MONTHS",
        default_value_t = 0,
        value_name = "MONTHS",
        value_parser = parse_retention_months
    )]
    pub retention_months: u32,
}

impl RetentionArgs {
    /// The months, if not everything is kept.
    pub fn months(self) -> Option<u32> {
        (self.retention_months > 0).then_some(self.retention_months)
    }
}

/// As many as idempotency keys need, or none.
fn parse_retention_months(text: &str) -> Result<u32, String> {
    let months =
        text.parse().ok().filter(|months| *months == 0 || (RETENTION_MONTHS_MIN..=MONTHS_MAX).contains(months));
    months.ok_or_else(|| format!("must be 0, or from {RETENTION_MONTHS_MIN} to {MONTHS_MAX}"))
}

/// A century: more is everything.
const MONTHS_MAX: u32 = 1_200;

/// Options of webhooks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookArgs {
    /// Networks that webhooks may be sent to although they are not public, such as 127.0.0.0/8 for development
    #[arg(long, env = "MULTICREDIT_WEBHOOK_ALLOW", value_delimiter = ',', value_name = "NETWORK,...")]
    pub webhook_allow: Vec<Network>,
    /// How many webhooks are sent a second, by this process: what is behind is told as fast as that
    #[arg(
        long,
        env = "MULTICREDIT_WEBHOOK_RATE",
        default_value_t = WEBHOOK_RATE_DEFAULT,
        value_parser = parse_webhook_rate,
        value_name = "A_SECOND"
    )]
    pub webhook_rate: NonZeroU32,
}

/// More is no limit.
const WEBHOOK_RATE_MAX: u32 = 100_000;

fn parse_webhook_rate(text: &str) -> Result<NonZeroU32, String> {
    let rate =
        text.parse().ok().filter(|rate: &NonZeroU32| (WEBHOOK_RATE_MIN..=WEBHOOK_RATE_MAX).contains(&rate.get()));
    rate.ok_or_else(|| format!("must be from {WEBHOOK_RATE_MIN} to {WEBHOOK_RATE_MAX}"))
}

/// Options of signed tokens (JWT), which are taken where one of the first two is given.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Signed tokens of users")]
pub struct TokenArgs {
    /// Take JWTs that are signed with this secret (HS256): 32 bytes or more
    #[arg(
        long,
        env = "MULTICREDIT_JWT_SECRET",
        hide_env_values = true,
        value_name = "SECRET",
        conflicts_with = "jwt_jwks_file"
    )]
    pub jwt_secret: Option<Secret>,
    /// Take JWTs that are signed with a key of this file, a JWK set (RS256, ES256, `EdDSA`); it is read again when it changes
    #[arg(long, env = "MULTICREDIT_JWT_JWKS_FILE", value_name = "FILE")]
    pub jwt_jwks_file: Option<PathBuf>,
    /// Who must have issued them (`iss`)
    #[arg(long, env = "MULTICREDIT_JWT_ISSUER", value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// Whom they must be for (`aud`)
    #[arg(long, env = "MULTICREDIT_JWT_AUDIENCE", value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
}

impl TokenArgs {
    /// The same, as what verifies them takes it.
    pub fn settings(&self) -> Option<TokenSettings> {
        let source = match (&self.jwt_secret, &self.jwt_jwks_file) {
            (Some(secret), _) => Source::Secret(secret.clone()),
            (None, Some(file)) => Source::File(file.clone()),
            (None, None) => return None,
        };
        Some(TokenSettings { source, issuer: self.jwt_issuer.clone(), audience: self.jwt_audience.clone() })
    }
}

/// Options of logging, which goes to standard error.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// What is logged: a level, or levels by target
    #[arg(id = "log", long = "log", env = "MULTICREDIT_LOG", default_value = DEFAULT_LOG, value_name = "FILTER")]
    pub filter: String,
    /// How it is written
    #[arg(
        id = "log_format",
        long = "log-format",
        env = "MULTICREDIT_LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text
    )]
    pub format: LogFormat,
    /// Where a collector of OpenTelemetry takes spans: http://HOST:PORT, OTLP over HTTP
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", value_parser = parse_otlp_endpoint)]
    pub otlp_endpoint: Option<String>,
}

/// A collector stands beside the server, and takes spans on from there by TLS if it has to.
fn parse_otlp_endpoint(text: &str) -> Result<String, &'static str> {
    if text.starts_with("http://") { Ok(text.to_owned()) } else { Err("must begin with http://") }
}
