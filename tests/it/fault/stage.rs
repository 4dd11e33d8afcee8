//! Where the run takes place: a PostgreSQL that syncs, a proxy before it, a Redis, two servers as processes; what is
//! done to them, and how they are healed.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait as _, Database, DbBackend, Statement};
use serde_json::{Value, json};
use tests::fault::{Asked, Fault, Outcome, Random};
use tests::postgres;
use tests::proxy::{Cut, Proxy};
use tests::redis::Redis;
use tests::scratch;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::load::Load;
use super::place::{ADMIN_KEY, each_type, verify};
use super::plant::plant;
use super::setting;
use super::small_disk::SmallDisk;
use crate::cli::process::{Server, program, signal};

const ORGANIZATIONS: usize = 8;

/// How often something that is still open is sent again after everything was healed.
const TRIES: usize = 40;

/// How many keys are settled at once.
const TOGETHER: usize = 32;

/// How long anything may take to come back.
const PATIENCE: Duration = Duration::from_mins(1);

/// Something in a table: which, and its id.
type Named = (&'static str, String);

/// Everything of a run.
pub struct Stage {
    pub load: Arc<Load>,
    pub proxy: Proxy,
    servers: Vec<Option<Server>>,
    /// The database through the proxy, which is what servers are told.
    url: String,
    /// The database itself, for whoever compares.
    direct_url: String,
    redis: Redis,
    /// The disk of PostgreSQL, where it has one of its own.
    disk: Option<SmallDisk>,
    // Last: it is dropped after everything that uses it.
    postgres: postgres::Postgres,
}

impl Stage {
    pub async fn start(servers: usize) -> Self {
        let postgres = tokio::task::spawn_blocking(|| postgres::start(true)).await.unwrap().unwrap();
        Self::with(postgres, servers).await
    }

    /// The same where PostgreSQL has a small disk of its own, which can be filled.
    ///
    /// # Errors
    ///
    /// Why it cannot have one here.
    pub async fn start_on_a_small_disk(servers: usize) -> Result<Self, String> {
        let postgres = tokio::task::spawn_blocking(|| postgres::start(true)).await.unwrap().unwrap();
        let data = postgres.data_directory();
        kill_postgres(&data).await;
        let disk = SmallDisk::under(&data)?;
        bring_up_postgres(&postgres).await;
        Ok(Self { disk: Some(disk), ..Self::with(postgres, servers).await })
    }

    async fn with(postgres: postgres::Postgres, servers: usize) -> Self {
        let redis = Redis::start().unwrap();
        let direct_url = format!("{}/postgres", postgres.url());
        let (proxy, url) = Proxy::before_database(&direct_url).await;
        let mut started = Vec::new();
        for _ in 0..servers {
            started.push(Some(serve(&url, &redis.url()).await));
        }
        plant(&direct_url, Some(&proxy)).await;
        let organizations = organizations(started[0].as_ref().unwrap()).await;
        let addresses = started.iter().flatten().map(|server| server.client.address()).collect();
        let journal =
            scratch::shared_directory().unwrap().join(format!("{}.journal", multicredit_store::clock::new_uuid()));
        let load = Arc::new(Load::new(organizations, addresses, &journal));
        Self { load, proxy, servers: started, url, direct_url, redis, disk: None, postgres }
    }

    /// Lets a thing go wrong, for a while, and mends it. Answers how long the first success took afterwards, where
    /// something was started anew.
    pub async fn suffer(&mut self, fault: Fault, random: &mut Random) -> Duration {
        let server = random.below(self.servers.len());
        let short = Duration::from_millis(500 + random.number() % 1_000);
        match fault {
            Fault::KillApi => return self.restart(server, "KILL").await,
            Fault::TerminateApi => return self.restart(server, "TERM").await,
            Fault::KillPostgres => return self.kill_postgres().await,
            Fault::PauseApi => self.pause_api(server, short).await,
            Fault::CutBeforeCommit => self.cut(Cut::BeforeCommit).await,
            Fault::CutAfterCommit => self.cut(Cut::AfterCommit).await,
            Fault::CutMidBatch => self.cut(Cut::MidBatch).await,
            Fault::Partition => self.partition(random).await,
            Fault::Delay => {
                self.proxy.delay(Duration::from_millis(20));
                sleep(short).await;
                self.proxy.delay(Duration::ZERO);
            }
            Fault::SlowDisk => slow_disk(short).await,
            Fault::ExhaustPool => self.exhaust_pool(server).await,
            Fault::ResetClients => {
                self.load.abandon(true);
                sleep(short).await;
                self.load.abandon(false);
            }
            Fault::PauseRedis => {
                let id = self.redis_id();
                signal(&id, "STOP").await;
                sleep(short).await;
                signal(&id, "CONT").await;
            }
            Fault::FlushRedis => drop(self.redis("FLUSHALL")),
            Fault::LyingRedis => self.lie(),
            Fault::KillRedis => signal(&self.redis_id(), "KILL").await,
        }
        Duration::ZERO
    }

    async fn restart(&mut self, server: usize, how: &str) -> Duration {
        let old = self.servers[server].take().unwrap();
        old.signal(how).await;
        let ended = old.end().await;
        assert!(how != "TERM" || ended.code == Some(0), "{ended:?}");
        let before = self.load.successes(server);
        let restarted = Instant::now();
        let new = serve(&self.url, &self.redis.url()).await;
        self.load.moved(server, new.client.address());
        self.servers[server] = Some(new);
        self.first_success(server, before, restarted).await
    }

    /// Waits until a server has said that something is done.
    async fn first_success(&self, server: usize, before: usize, since: Instant) -> Duration {
        while self.load.successes(server) == before {
            assert!(since.elapsed() < PATIENCE, "no success after a restart");
            sleep(Duration::from_millis(5)).await;
        }
        since.elapsed()
    }

    async fn pause_api(&self, server: usize, pause: Duration) {
        let server = self.servers[server].as_ref().unwrap();
        server.signal("STOP").await;
        sleep(pause).await;
        server.signal("CONT").await;
    }

    /// Three cuts, for all of which there is something to be cut soon.
    async fn cut(&self, cut: Cut) {
        let until = self.proxy.cuts_made() + 3;
        (0..3).for_each(|_| self.proxy.cut(cut));
        let begun = Instant::now();
        while self.proxy.cuts_made() < until {
            assert!(begun.elapsed() < PATIENCE, "nothing to cut");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn partition(&self, random: &mut Random) {
        let longest = setting("PARTITION_SECONDS", 2_usize);
        let shortest = longest.min(5);
        let seconds = shortest + random.below(longest - shortest + 1);
        self.proxy.partition(true);
        sleep(Duration::from_secs(seconds as u64)).await;
        self.proxy.partition(false);
    }

    /// More readers than a server has connections for. Each is answered, or told to come again.
    async fn exhaust_pool(&self, server: usize) {
        let client = self.servers[server].as_ref().unwrap().client.with_key(ADMIN_KEY);
        let path = format!("/v1/organizations/{}/ledger?limit=100", self.load.organizations[0]);
        let answers = futures_util::future::join_all((0..200).map(|_| client.get(&path).into_future())).await;
        for answer in answers {
            assert!([200, 429, 503].contains(&answer.status), "{answer}");
        }
    }

    async fn kill_postgres(&self) -> Duration {
        kill_postgres(&self.postgres.data_directory()).await;
        bring_up_postgres(&self.postgres).await;
        self.success_anywhere().await
    }

    /// How long it takes from now until any server says that something is done.
    async fn success_anywhere(&self) -> Duration {
        let successes = || (0..self.load.servers()).map(|server| self.load.successes(server)).sum::<usize>();
        let before = successes();
        let ready = Instant::now();
        while successes() == before {
            assert!(ready.elapsed() < PATIENCE, "no success after PostgreSQL was ready");
            sleep(Duration::from_millis(2)).await;
        }
        ready.elapsed()
    }

    /// Fills PostgreSQL's disk, leaves it full for a while, and frees it. Answers how long the first success took then.
    pub async fn fill_disk(&self, pause: Duration) -> Duration {
        let disk = self.disk.as_ref().unwrap();
        // What is freed may be taken at once by what has waited for it. PostgreSQL has some room ahead: tables cannot grow,
        // but its log goes on until it needs another file.
        let filled = Instant::now();
        while filled.elapsed() < pause {
            disk.fill();
            if filled.elapsed() > pause / 2 && is_running(&self.postgres.data_directory()) {
                self.use_up_log().await;
            }
            sleep(Duration::from_millis(50)).await;
        }
        disk.free();
        // Without room for its log PostgreSQL stops altogether.
        if !is_running(&self.postgres.data_directory()) {
            bring_up_postgres(&self.postgres).await;
        }
        self.success_anywhere().await
    }

    /// Has PostgreSQL begin another file of its log, for which there may be no room.
    async fn use_up_log(&self) {
        // One that is stopping may be asked for half a minute.
        let Ok(Ok(connection)) = timeout(Duration::from_secs(1), Database::connect(&self.direct_url)).await else {
            return;
        };
        // It fails when the server stops, which is the point.
        let _ = connection.execute_unprepared("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()").await;
        let _ = connection.close().await;
    }

    /// Has Redis do something, and answers what it said.
    fn redis(&self, command: &str) -> String {
        let address = self.redis.url().replace("redis://", "");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).unwrap();
        String::from_utf8_lossy(&said).into_owned()
    }

    fn redis_id(&self) -> String {
        let said = self.redis("INFO server");
        said.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().to_owned()
    }

    /// Replaces everything that Redis has with nonsense.
    fn lie(&self) {
        let keys = self.redis("KEYS *");
        for key in keys.lines().filter(|line| !line.starts_with(['*', '$', '+'])) {
            self.redis(&format!("SET {key} 9007199254740991"));
        }
    }

    /// Sends again what is open, until it is not, and compares. What was acknowledged must be answered as it was; what
    /// was refused must not have happened. Answers what is wrong.
    pub async fn settle(&mut self) -> Vec<String> {
        let mut violations = self.load.unclassified();
        let mut acknowledged = BTreeSet::new();
        let mut possible = BTreeSet::new();
        let (by_key, keyless): (Vec<_>, Vec<_>) =
            self.load.journal_by_key().into_iter().partition(|(_, sent)| sent[0].0.is_keyed);
        for (asked, outcome) in keyless.into_iter().flat_map(|(_, sent)| sent) {
            acknowledged.extend(outcome.body().map(|body| (kind(&asked), id_of(body))));
            possible.extend(outcome.to_look_up().map(|id| (kind(&asked), id.to_owned())));
        }
        for together in by_key.chunks(TOGETHER) {
            let settling = together.iter().map(|(key, sent)| self.settle_one(key, sent));
            for (asked, again, wrong) in futures_util::future::join_all(settling).await {
                violations.extend(wrong);
                if let Some(body) = again.body() {
                    acknowledged.insert((kind(&asked), id_of(body)));
                }
            }
        }
        violations.extend(self.compare(&acknowledged, &possible).await);
        violations.extend(verify(&self.direct_url).await);
        violations
    }

    /// Settles one key: what was asked under it, what that is in the end, and what is wrong with it.
    async fn settle_one(&self, key: &str, sent: &[(Asked, Outcome)]) -> (Asked, Outcome, Vec<String>) {
        let mut wrong = Vec::new();
        let first = sent.iter().find_map(|(asked, outcome)| Some((asked, outcome.body()?)));
        let asked = first.map_or(&sent[0].0, |(asked, _)| asked);
        for (other, outcome) in sent {
            let is_same = other.body == asked.body && outcome.body() == first.map(|(_, body)| body);
            if outcome.body().is_some() && !is_same {
                wrong.push(format!("{key} was done in two ways: {sent:?}"));
            }
        }
        let (again, was_unknown) = self.again(asked).await;
        let was_refused = !was_unknown && sent.iter().all(|(_, it)| matches!(it, Outcome::Refused { .. }));
        let is_right = match (&again, first) {
            (Outcome::Done { body, is_replay }, Some((_, before))) => *is_replay && body == before,
            (Outcome::Refused { .. }, Some(_)) => false,
            (Outcome::Done { is_replay, .. }, None) => !(*is_replay && was_refused),
            (outcome, _) => !outcome.is_open(),
        };
        if !is_right {
            wrong.push(format!("{key} is {again:?} in the end, after {sent:?}"));
        }
        (asked.clone(), again, wrong)
    }

    /// Sends something again, to one server after the other, until it is done or refused for good; and whether what
    /// came of it was unknown in between.
    async fn again(&self, asked: &Asked) -> (Outcome, bool) {
        let mut was_unknown = false;
        let mut outcome = Outcome::Unknown("never sent".to_owned());
        for attempt in 0..TRIES {
            outcome = self.load.send(attempt % self.load.servers(), vec![asked.clone()], false).await.remove(0);
            if !outcome.is_open() {
                break;
            }
            was_unknown |= matches!(outcome, Outcome::Unknown(_));
            sleep(Duration::from_millis(250)).await;
        }
        (outcome, was_unknown)
    }

    /// What is in the ledger and was neither acknowledged nor possible, and what was acknowledged and is not in it.
    async fn compare(&self, acknowledged: &BTreeSet<Named>, possible: &BTreeSet<Named>) -> Vec<String> {
        let connection = Database::connect(&self.direct_url).await.unwrap();
        let sql = "SELECT 'consumption' AS kind, id::text FROM credit_consumption_logs WHERE success \
                   UNION ALL SELECT 'hold', id::text FROM credit_holds \
                   UNION ALL SELECT 'refund', id::text FROM credit_refunds \
                   UNION ALL SELECT 'grant', id::text FROM credit_grants WHERE source = 'promotion'";
        let rows = connection.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
        let count = rows.len();
        let there: BTreeSet<(String, String)> =
            rows.iter().map(|row| (row.try_get_by_index(0).unwrap(), row.try_get_by_index(1).unwrap())).collect();
        connection.close().await.unwrap();
        let named = |(kind, id): &Named| ((*kind).to_owned(), id.clone());
        let possible: BTreeSet<(String, String)> = possible.iter().map(named).collect();
        let expected: BTreeSet<(String, String)> =
            acknowledged.iter().filter(|(kind, _)| *kind != "release").map(named).collect();
        let twice = (count != there.len()).then(|| "an id is there twice".to_owned());
        let lost = expected.difference(&there).map(|it| format!("{it:?} was acknowledged and is not there"));
        let extra = there.difference(&expected).filter(|it| !possible.contains(it));
        let extra = extra.map(|it| format!("{it:?} is there, and nobody was told"));
        twice.into_iter().chain(lost).chain(extra).collect()
    }
}

/// The id of the process of the server with that data, if there is one.
fn postgres_id(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    text.lines().next().map(str::to_owned)
}

fn is_running(data: &Path) -> bool {
    postgres_id(data).is_some_and(|id| Path::new(&format!("/proc/{id}/exe")).read_link().is_ok())
}

async fn kill_postgres(data: &Path) {
    signal(&postgres_id(data).unwrap(), "KILL").await;
    while is_running(data) {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Starts PostgreSQL where it was. The children of one that was killed end when they notice; until then a new one does
/// not start.
async fn bring_up_postgres(postgres: &postgres::Postgres) {
    let begun = Instant::now();
    while !start_postgres(postgres).await {
        assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start");
    }
}

/// Starts PostgreSQL where it was, as whom it was; whether it is ready.
async fn start_postgres(postgres: &postgres::Postgres) -> bool {
    let data = postgres.data_directory();
    let named = std::env::var_os(postgres::BIN_VARIABLE).map(Into::into);
    let bin = multicredit::throwaway::bin_directory(named).unwrap();
    let owner = std::fs::metadata(&data).unwrap();
    let port = postgres.url().rsplit(':').next().unwrap().to_owned();
    let mut command = Command::new(bin.join("postgres"));
    command.arg("-D").arg(&data).args(["-p", &port]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    if owner.uid() != std::fs::metadata("/proc/self").unwrap().uid() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let mut process = command.spawn().unwrap();
    let id = process.id().unwrap();
    loop {
        sleep(Duration::from_millis(20)).await;
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        let pid_file = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if pid_file.starts_with(&format!("{id}\n")) && pid_file.contains("\nready") {
            return true;
        }
    }
}

async fn serve(url: &str, redis_url: &str) -> Server {
    let arguments = ["serve", "--migrate", "--admin-key", ADMIN_KEY, "--max-connections", "4"];
    let mut command = program(url, &arguments);
    command.env("REDIS_URL", redis_url).env("MULTICREDIT_LOG", "error");
    Server::spawn(command).await
}

async fn organizations(server: &Server) -> Vec<String> {
    let client = server.client.with_key(ADMIN_KEY);
    let mut organizations = Vec::new();
    for number in 0..ORGANIZATIONS {
        let made = client.post("/v1/organizations").json(json!({ "name": format!("organization {number}") })).await;
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        // One of them runs out of credits soon, so that there are refusals.
        let many = if number == 0 { 50 } else { 100_000_000 };
        let grant = json!({ "credits": each_type(many), "source": "purchase" });
        client.post(&format!("/v1/organizations/{id}/grants")).json(grant).await.expect(201);
        organizations.push(id);
    }
    organizations
}

/// Others keep the disk busy, as far as that can be had without a disk of one's own.
async fn slow_disk(duration: Duration) {
    let busy = |number: usize| {
        let path = std::env::temp_dir().join(format!("multicredit-fault-{}-{number}", std::process::id()));
        tokio::task::spawn_blocking(move || {
            let end = Instant::now() + duration;
            let mut file = std::fs::File::create(&path).unwrap();
            while Instant::now() < end {
                file.write_all(&[1; 8_192]).unwrap();
                file.sync_all().unwrap();
            }
            std::fs::remove_file(&path).unwrap();
        })
    };
    futures_util::future::join_all((0..4).map(busy)).await;
}

/// In what table a thing is that was asked for.
fn kind(asked: &Asked) -> &'static str {
    match asked.path.as_deref() {
        Some(path) if path.ends_with("/holds") => "hold",
        Some(path) if path.ends_with("/refund") => "refund",
        Some(path) if path.ends_with("/grants") => "grant",
        Some(path) if path.ends_with("/release") => "release",
        _ => "consumption",
    }
}

fn id_of(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["id"].as_str().unwrap_or_default().to_owned()
}
