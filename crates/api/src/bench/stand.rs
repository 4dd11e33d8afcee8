//! A place set up for measuring: its database, a server on it, and what it is compared with.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use futures_util::future::try_join_all;
use multicredit_store::Engine;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::Settings;
use super::client::Client;
use super::data::{self, Data};
use super::databases::{self, Databases};
use super::draw::{self, Spread};
use super::history::{self, History};
use super::load::{Load, Tally};
use super::pgbench::{Calls, Pgbench};
use super::raw;
use super::report::{CheckResult, CpuUse, Latency, MemoryResult, OpenSample, Sample};
use super::request::{BATCH_ITEMS, Call, Requests, Targets};
use super::rows::{Place, Procedure, Row, Whom, Work};
use super::server::Server;
use super::usage;
use super::webhooks::{self, Told};
use crate::throwaway::{Guardian, Postgres, bin_directory, redis_server};

/// An open loop sends at this share of the closed loop's rate: near the limit, and below it.
const OPEN_LOOP_SHARE: f64 = 0.7;

/// How many clients fill the cache before it is measured.
const WARMING_CLIENTS: usize = 16;

/// The seed-style procedure and its tables.
const SEED: &str = include_str!("seed.sql");

/// The beginning of the ids of the seed-style organizations; their number follows.
const SEED_ID: &str = "00000000-0000-7000-8000-";

/// The product's organizations by number, for `pgbench`, which can draw numbers only.
const NUMBERED: &str = "CREATE SCHEMA bench; \
    CREATE TABLE bench.organizations AS SELECT row_number() OVER (ORDER BY id) - 1 AS number, id FROM organizations; \
    ALTER TABLE bench.organizations ADD PRIMARY KEY (number)";

/// A place, ready. What is dropped first stands first: the server before its database.
pub struct Stand {
    server: Server,
    place: Place,
    database_url: String,
    api_key: String,
    one: Targets,
    uniform: Targets,
    zipf: Targets,
    /// Consumptions that the product's database must have.
    acknowledged: AtomicU64,
    postgres: Option<PostgresStand>,
    history: Option<History>,
    told: Option<Told>,
    /// Over which balances are cached.
    _redis: Option<Guardian>,
    /// Where the database file is.
    _directory: Option<Guardian>,
}

/// What some places have beside their database.
#[derive(Default)]
struct Beside {
    history: Option<History>,
    told: Option<Told>,
    redis: Option<Guardian>,
    directory: Option<Guardian>,
}

/// A Redis of this run.
async fn start_redis() -> anyhow::Result<Guardian> {
    tokio::task::spawn_blocking(|| Guardian::server("redis", false, &redis_server()?)).await?
}

async fn ask_once(address: SocketAddr) -> io::Result<()> {
    let mut requests = Requests::new(Call::Nothing, "", Targets::new(&[], Vec::new()), 0, 1);
    Client::connect(address).await?.exchange(requests.next()).await.map(drop)
}

/// Reads every balance once, so that the cache has it: drawn by chance, the last of them would be read after minutes.
async fn read_balances(address: SocketAddr, api_key: &str, everybody: &Targets, count: usize) -> anyhow::Result<()> {
    let read = async |nth| {
        let mut client = Client::connect(address).await?;
        let mut requests = Requests::new(Call::Balance, api_key, everybody.clone(), nth, WARMING_CLIENTS);
        for _ in 0..count.div_ceil(WARMING_CLIENTS) {
            client.exchange(requests.next()).await?;
        }
        io::Result::Ok(())
    };
    try_join_all((0..WARMING_CLIENTS).map(read)).await.context("cannot read the balances into the cache")?;
    Ok(())
}

/// What only PostgreSQL has.
struct PostgresStand {
    version: String,
    pgbench: Pgbench,
    has_rpc: bool,
    organizations: Vec<Uuid>,
    raw_url: String,
    seed_url: String,
    /// Consumptions that the seed-style tables must have.
    seed_acknowledged: AtomicU64,
    _databases: Databases,
    /// The server's first process, if it runs on this machine and is ours.
    pid: Option<u32>,
    _throwaway: Option<Postgres>,
}

impl Stand {
    /// Sets a place up, telling `say` how far it is.
    pub async fn build(place: Place, settings: &Settings, say: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Self> {
        // One more, for the rows about a single one.
        let count = settings.organizations + 1;
        match place.engine() {
            Engine::Sqlite => {
                let directory = Guardian::directory_only(true)?;
                let url = format!("sqlite://{}?mode=rwc", directory.directory().join("multicredit.db").display());
                let data = data::make(&url, count).await?;
                Self::start(place, url, data, None, Beside { directory: Some(directory), ..Beside::default() }).await
            }
            Engine::Postgres => {
                let (url, data, postgres) = PostgresStand::build(settings, count).await?;
                let history = match history::rows(place, settings.history) {
                    Some(rows) => {
                        say(&format!("{}: loading {rows} rows of the log", place.name()));
                        Some(History::load(&url, &data.organizations, rows, history::per_day(settings.history)).await?)
                    }
                    None => None,
                };
                let redis = if place == Place::Cached { Some(start_redis().await?) } else { None };
                let told = if place == Place::Told { Some(Told::make(&url).await?) } else { None };
                Self::start(place, url, data, Some(postgres), Beside { history, told, redis, directory: None }).await
            }
        }
    }

    async fn start(
        place: Place,
        database_url: String,
        data: Data,
        postgres: Option<PostgresStand>,
        beside: Beside,
    ) -> anyhow::Result<Self> {
        let Beside { history, told, redis, directory } = beside;
        let (one, many) = data.organizations.split_at(1);
        let targets = |spread| Targets::new(many, draw::draws(spread, many.len()));
        let url = database_url.clone();
        let mut settings = Vec::new();
        if history.is_some() {
            settings.extend(history::SERVER_SETTINGS.map(|(name, value)| (name, value.to_owned())));
        }
        if told.is_some() {
            settings.extend(webhooks::SERVER_SETTINGS.map(|(name, value)| (name, value.to_owned())));
        }
        if let Some(redis) = &redis {
            settings.push(("REDIS_URL", format!("redis://127.0.0.1:{}", redis.port())));
        }
        let server = tokio::task::spawn_blocking(move || Server::start(&url, &settings)).await??;
        // The first requests of a process also pay for what it begins with.
        ask_once(server.address).await.context("the server does not answer")?;
        if redis.is_some() {
            let everybody = Targets::new(many, (0..u32::try_from(many.len())?).collect());
            read_balances(server.address, &data.api_key, &everybody, many.len()).await?;
        }
        Ok(Self {
            server,
            place,
            database_url,
            api_key: data.api_key,
            one: Targets::new(one, vec![0]),
            uniform: targets(Spread::Uniform),
            zipf: targets(Spread::Zipf),
            acknowledged: AtomicU64::new(history.as_ref().map_or(0, |history| history.rows)),
            postgres,
            history,
            told,
            _redis: redis,
            _directory: directory,
        })
    }

    /// Which place it is.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// The version of the database server, where there is one.
    pub fn postgres_version(&self) -> Option<&str> {
        self.postgres.as_ref().map(|postgres| postgres.version.as_str())
    }

    /// Why the row cannot be measured here, if it cannot.
    pub fn missing(&self, row: &Row) -> Option<String> {
        let is_rpc = matches!(row.work, Work::Procedure(Procedure::Rpc, _));
        let has_rpc = self.postgres.as_ref().is_some_and(|postgres| postgres.has_rpc);
        (is_rpc && !has_rpc).then(|| "this schema has no consume_credits_rpc".to_owned())
    }

    /// Measures a row once from that many connections. Answers too what was not answered as it should be.
    pub async fn measure(
        &self,
        row: &Row,
        connections: usize,
        round: u32,
        settings: &Settings,
    ) -> anyhow::Result<(Sample, Vec<String>)> {
        if row.work == Work::Refresh {
            return self.refresh(round).await.with_context(|| format!("cannot measure {}", row.id));
        }
        let listening = self.told.as_ref().filter(|_| matches!(row.work, Work::Told(..)));
        if let Some(told) = listening {
            told.enable(true).await?;
        }
        let (before, began, taken) = (self.cpu(), Instant::now(), listening.map(Told::taken));
        let tally = self.load(row.work, connections, None, settings).await;
        let tally = tally.with_context(|| format!("cannot measure {}", row.id))?;
        let after = self.cpu();
        let took = began.elapsed();
        let arrived = listening.zip(taken).map(|(told, taken)| as_float(told.taken() - taken) / took.as_secs_f64());
        let rate = rate(&tally, 1, settings.measured);
        let mut failures = failures(row, &tally);
        let open = if matches!(row.work, Work::Http(Call::Nothing | Call::Consume, _) | Work::Told(..)) && rate > 0.0 {
            let rate = rate * OPEN_LOOP_SHARE;
            let tally = self.load(row.work, connections, Some(rate), settings).await?;
            failures.extend(self::failures(row, &tally));
            Some(OpenSample { rate, latency: Latency::of(&tally.latencies) })
        } else {
            None
        };
        if let Some(told) = listening {
            told.enable(false).await?;
        }
        let items = match row.work {
            Work::Http(Call::Batch, _) | Work::RawInsert => BATCH_ITEMS as u64,
            Work::Http(..) | Work::Told(..) | Work::Procedure(..) | Work::Refresh => 1,
        };
        let sample = Sample {
            round,
            connections,
            rate: self::rate(&tally, items, settings.measured),
            latency: Latency::of(&tally.latencies),
            cpu: used(before, after, tally.acknowledged * items),
            open,
            webhooks: arrived,
        };
        Ok((sample, failures))
    }

    async fn load(
        &self,
        work: Work,
        connections: usize,
        rate: Option<f64>,
        settings: &Settings,
    ) -> anyhow::Result<Tally> {
        let (warm_up, measured) = (settings.warm_up(), settings.measured);
        match work {
            Work::Http(call, whom) | Work::Told(call, whom) => {
                let targets = match whom {
                    Whom::One => &self.one,
                    Whom::All(Spread::Uniform) => &self.uniform,
                    Whom::All(Spread::Zipf) => &self.zipf,
                };
                let load = Load {
                    address: self.server.address,
                    call,
                    api_key: self.api_key.clone(),
                    targets: targets.clone(),
                    connections,
                    rate,
                    warm_up,
                    measured,
                };
                let tally = tokio::task::spawn_blocking(move || load.run()).await??;
                self.acknowledged.fetch_add(tally.acknowledged * call.consumptions(), Ordering::Relaxed);
                Ok(tally)
            }
            Work::RawInsert => {
                let postgres = self.postgres()?;
                raw::run(&postgres.raw_url, &postgres.organizations, connections, warm_up, measured).await
            }
            Work::Procedure(procedure, whom) => {
                let postgres = self.postgres()?;
                let script = script(procedure, whom, &postgres.organizations);
                let (url, counter) = match procedure {
                    Procedure::Rpc => (&self.database_url, Some(&self.acknowledged)),
                    Procedure::Seed => (&postgres.seed_url, Some(&postgres.seed_acknowledged)),
                    Procedure::LookUp => (&self.database_url, None),
                };
                let calls = Calls { url, script: &script, connections, warm_up, measured };
                let tally = postgres.pgbench.run(&calls).await?;
                if let Some(counter) = counter {
                    counter.fetch_add(tally.acknowledged, Ordering::Relaxed);
                }
                Ok(tally)
            }
            Work::Refresh => bail!("a refresh is measured once, not for a time"),
        }
    }

    /// A day's new rows by batch calls, and how long it takes to roll them up and to refresh the summary.
    async fn refresh(&self, round: u32) -> anyhow::Result<(Sample, Vec<String>)> {
        let history = self.history.as_ref().context("this row is for a place with history")?;
        history.refresh().await.context("cannot roll up what was there before")?;
        let mut client = Client::connect(self.server.address).await.context("cannot connect to the server")?;
        let mut requests = Requests::new(Call::Batch, &self.api_key, self.uniform.clone(), 0, 1);
        let mut failures = Vec::new();
        for _ in 0..history.day.div_ceil(BATCH_ITEMS as u64) {
            let answer = client.exchange(requests.next()).await?;
            if requests.is_answered(answer.status, answer.body) {
                self.acknowledged.fetch_add(BATCH_ITEMS as u64, Ordering::Relaxed);
            } else {
                failures.push(format!("a batch call got {}", String::from_utf8_lossy(&answer.status)));
            }
        }
        let taken = history.refresh().await?;
        let micros = taken.as_secs_f64() * 1e6;
        let latency = Latency { p50_us: micros, p99_us: micros, p999_us: micros };
        let cpu = CpuUse::default();
        let rate = 1e6 / micros;
        Ok((Sample { round, connections: 1, rate, latency, cpu, open: None, webhooks: None }, failures))
    }

    fn postgres(&self) -> anyhow::Result<&PostgresStand> {
        self.postgres.as_ref().context("this row is for PostgreSQL")
    }

    /// The memory of the server now.
    pub fn memory(&self) -> Option<MemoryResult> {
        usage::memory(self.server.pid).map(|memory| MemoryResult::new(self.place, memory))
    }

    fn cpu(&self) -> [Option<Duration>; 3] {
        let postgres = self.postgres.as_ref().and_then(|postgres| postgres.pid);
        [usage::cpu(self.server.pid), usage::cpu(std::process::id()), postgres.and_then(usage::cpu_with_children)]
    }

    /// Kills the server and checks that the databases hold what was acknowledged, and every invariant.
    pub async fn finish(self) -> anyhow::Result<Vec<CheckResult>> {
        drop(self.server);
        if let Some(history) = self.history {
            history.close().await;
        }
        if let Some(told) = self.told {
            told.close().await;
        }
        let (charged, verified) = data::check(&self.database_url).await?;
        let mut checks = vec![CheckResult {
            database: self.place.name(),
            acknowledged: self.acknowledged.into_inner(),
            charged,
            verified: Some(verified),
        }];
        if let Some(postgres) = &self.postgres
            && self.place == Place::Postgres
        {
            checks.push(CheckResult {
                database: "seed-style",
                acknowledged: postgres.seed_acknowledged.load(Ordering::Relaxed),
                charged: data::count_charged(&postgres.seed_url).await?,
                verified: None,
            });
        }
        Ok(checks)
    }
}

impl PostgresStand {
    /// A server and its databases. Answers the product's URL and data too.
    async fn build(settings: &Settings, count: usize) -> anyhow::Result<(String, Data, Self)> {
        let bin = bin_directory(settings.postgres_bin.clone());
        let pgbench = Pgbench::find(bin.as_deref().ok())?;
        let (throwaway, admin_url) = if let Some(url) = &settings.postgres_url {
            (None, url.clone())
        } else {
            let bin = bin.map_err(|error| anyhow!("{error:#} (--postgres-bin says where)"))?;
            let postgres = tokio::task::spawn_blocking(move || Postgres::start(true, &bin)).await??;
            let url = format!("{}/postgres", postgres.url());
            (Some(postgres), url)
        };
        let pid = throwaway.as_ref().and_then(|postgres| {
            let file = std::fs::read_to_string(postgres.data_directory().join("postmaster.pid")).ok()?;
            file.lines().next()?.trim().parse().ok()
        });
        let mut databases = Databases::on(admin_url);
        let url = databases.create(None).await?;
        let data = data::make(&url, count).await?;
        let raw_url = databases.create(Some(&url)).await?;
        databases::execute(&url, NUMBERED).await.context("cannot number the organizations")?;
        databases::execute(&url, "VACUUM ANALYZE").await?;
        let seed_url = databases.create(None).await?;
        databases::execute(&seed_url, SEED).await.context("cannot make the seed-style procedure")?;
        databases::execute(&seed_url, &seed_organizations(count)).await?;
        databases::execute(&seed_url, "VACUUM ANALYZE").await?;

        let mut connection = PgConnection::connect(&url).await?;
        let version: String = sqlx::query_scalar("SHOW server_version").fetch_one(&mut connection).await?;
        let find_rpc = "SELECT to_regprocedure('consume_credits_rpc(uuid,text,bigint)') IS NOT NULL";
        let has_rpc = sqlx::query_scalar(find_rpc).fetch_one(&mut connection).await?;
        connection.close().await?;
        let stand = Self {
            version: format!("PostgreSQL {version}"),
            pgbench,
            has_rpc,
            organizations: data.organizations.clone(),
            raw_url,
            seed_url,
            seed_acknowledged: AtomicU64::new(0),
            _databases: databases,
            pid,
            _throwaway: throwaway,
        };
        Ok((url, data, stand))
    }
}

/// The seed-style organizations, the first for the rows about a single one.
fn seed_organizations(count: usize) -> String {
    format!(
        "INSERT INTO organization_credits SELECT ('{SEED_ID}' || lpad(n::text, 12, '0'))::uuid, 1000000000000, \
         1000000000000, 1000000000000, 1000000000000, now() FROM generate_series(0, {count} - 1) AS n"
    )
}

/// The transaction that `pgbench` runs.
fn script(procedure: Procedure, whom: Whom, organizations: &[Uuid]) -> String {
    let draw = format!("\\set n random(1, {})\n", organizations.len().saturating_sub(1).max(1));
    let one = organizations.first().copied().unwrap_or_default();
    let drawn = "(SELECT o.id FROM bench.organizations o WHERE o.number = :n)";
    match (procedure, whom) {
        (Procedure::Seed, Whom::One) => format!("SELECT seed_consume_credits('{SEED_ID}{:012}', 'ai_chat', 1);\n", 0),
        (Procedure::Seed, Whom::All(_)) => {
            let id = format!("('{SEED_ID}' || lpad(:n::text, 12, '0'))::uuid");
            format!("{draw}SELECT seed_consume_credits({id}, 'ai_chat', 1);\n")
        }
        (Procedure::Rpc, Whom::One) => format!("SELECT consume_credits_rpc('{one}', 'ai_chat', 1);\n"),
        (Procedure::Rpc, Whom::All(_)) => format!("{draw}SELECT consume_credits_rpc({drawn}, 'ai_chat', 1);\n"),
        (Procedure::LookUp, Whom::One) => {
            format!("SELECT * FROM organization_credits WHERE organization_id = '{one}';\n")
        }
        (Procedure::LookUp, Whom::All(_)) => {
            format!("{draw}SELECT * FROM organization_credits WHERE organization_id = {drawn};\n")
        }
    }
}

/// Things done a second.
fn rate(tally: &Tally, items: u64, measured: Duration) -> f64 {
    as_float(tally.done * items) / measured.as_secs_f64()
}

/// Processor time for each of the things done.
fn used(before: [Option<Duration>; 3], after: [Option<Duration>; 3], done: u64) -> CpuUse {
    let each = |nth: usize| {
        let spent = after[nth]?.checked_sub(before[nth]?)?;
        (done > 0).then(|| spent.as_secs_f64() * 1e6 / as_float(done))
    };
    CpuUse { server_us: each(0), load_us: each(1), postgres_us: each(2) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
const fn as_float(count: u64) -> f64 {
    count as f64
}

/// What was not answered as it should be.
fn failures(row: &Row, tally: &Tally) -> Vec<String> {
    let example = tally.first_failure.as_deref().unwrap_or_default();
    let failed = (tally.failed > 0).then(|| format!("{}: {} answers, the first: {example}", row.id, tally.failed));
    failed.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_procedure_is_called_for_one_organization_or_for_drawn_ones() {
        let organizations = [Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3)];
        let all = Whom::All(Spread::Uniform);
        assert!(script(Procedure::Seed, all, &organizations).starts_with("\\set n random(1, 2)\nSELECT seed_consume"));
        assert!(script(Procedure::Rpc, all, &organizations).contains("o.number = :n"));
        let one = "SELECT consume_credits_rpc('00000000-0000-0000-0000-000000000001', 'ai_chat', 1);\n";
        assert_eq!(script(Procedure::Rpc, Whom::One, &organizations), one);
        assert!(script(Procedure::Seed, Whom::One, &organizations).contains("7000-8000-000000000000'"));
    }
}
