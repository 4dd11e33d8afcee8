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
use tokio::time::sleep;

use super::load::Load;
use super::setting;
use crate::cli::process::{Server, program, run, signal};

pub const ADMIN_KEY: &str = "the-admin-key-of-the-fault-run-0123456789";

const ORGANIZATIONS: usize = 8;

/// How often something that is still open is sent again after everything was healed.
const TRIES: usize = 40;

/// How many keys are settled at once.
const TOGETHER: usize = 32;

/// How long anything may take to come back.
const PATIENCE: Duration = Duration::from_mins(1);

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
    // Last: it is dropped after everything that uses it.
    postgres: postgres::Postgres,
}

impl Stage {
    pub async fn start(servers: usize) -> Self {
        let postgres = tokio::task::spawn_blocking(|| postgres::start(true)).await.unwrap().unwrap();
        let redis = Redis::start().unwrap();
        let direct_url = format!("{}/postgres", postgres.url());
        let (proxy, url) = Proxy::before_database(&direct_url).await;
        let mut started = Vec::new();
        for _ in 0..servers {
            started.push(Some(serve(&url, &redis.url()).await));
        }
        plant(&direct_url).await;
        let organizations = organizations(started[0].as_ref().unwrap()).await;
        let addresses = started.iter().flatten().map(|server| server.client.address()).collect();
        let journal =
            scratch::shared_directory().unwrap().join(format!("{}.journal", multicredit_store::clock::new_uuid()));
        let load = Arc::new(Load::new(organizations, addresses, &journal));
        Self { load, proxy, servers: started, url, direct_url, redis, postgres }
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
        let data = self.postgres.data_directory();
        let pid_file = data.join("postmaster.pid");
        let text = std::fs::read_to_string(&pid_file).unwrap();
        let id = text.lines().next().unwrap().to_owned();
        signal(&id, "KILL").await;
        while Path::new(&format!("/proc/{id}/exe")).read_link().is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        // Its children end when they notice; until then a new one does not start.
        let begun = Instant::now();
        while !self.start_postgres(&data).await {
            assert!(begun.elapsed() < PATIENCE, "PostgreSQL does not start");
        }
        let before: usize = (0..self.load.servers()).map(|server| self.load.successes(server)).sum();
        let ready = Instant::now();
        while (0..self.load.servers()).map(|server| self.load.successes(server)).sum::<usize>() == before {
            assert!(ready.elapsed() < PATIENCE, "no success after PostgreSQL was ready");
            sleep(Duration::from_millis(2)).await;
        }
        ready.elapsed()
    }

    /// Starts PostgreSQL where it was, as whom it was; whether it is ready.
    async fn start_postgres(&self, data: &Path) -> bool {
        let named = std::env::var_os(postgres::BIN_VARIABLE).map(Into::into);
        let bin = multicredit::throwaway::bin_directory(named).unwrap();
        let owner = std::fs::metadata(data).unwrap();
        let port = self.postgres.url().rsplit(':').next().unwrap().to_owned();
        let mut command = Command::new(bin.join("postgres"));
        command.arg("-D").arg(data).args(["-p", &port]).current_dir("/");
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
        let by_key: Vec<_> = self.load.journal_by_key().into_iter().collect();
        for together in by_key.chunks(TOGETHER) {
            let settling = together.iter().map(|(key, sent)| self.settle_one(key, sent));
            for (asked, again, wrong) in futures_util::future::join_all(settling).await {
                violations.extend(wrong);
                if let Some(body) = again.body() {
                    acknowledged.insert((kind(&asked), id_of(body)));
                }
            }
        }
        violations.extend(self.compare(&acknowledged).await);
        violations.extend(self.verify().await);
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

    /// What is in the ledger and was never acknowledged, and the other way round.
    async fn compare(&self, acknowledged: &BTreeSet<(&'static str, String)>) -> Vec<String> {
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
        let expected: BTreeSet<(String, String)> = acknowledged
            .iter()
            .filter(|(kind, _)| *kind != "release")
            .map(|(kind, id)| ((*kind).to_owned(), id.clone()))
            .collect();
        let twice = (count != there.len()).then(|| "an id is there twice".to_owned());
        let lost = expected.difference(&there).map(|it| format!("{it:?} was acknowledged and is not there"));
        let extra = there.difference(&expected).map(|it| format!("{it:?} is there, and nobody was told"));
        twice.into_iter().chain(lost).chain(extra).collect()
    }

    async fn verify(&self) -> Option<String> {
        let ended = run(&self.direct_url, &["verify", "--format", "json"]).await;
        (ended.code != Some(0)).then(|| format!("{ended:?}"))
    }
}

async fn serve(url: &str, redis_url: &str) -> Server {
    let arguments = ["serve", "--migrate", "--admin-key", ADMIN_KEY, "--max-connections", "4"];
    let mut command = program(url, &arguments);
    command.env("REDIS_URL", redis_url).env("MULTICREDIT_LOG", "error");
    Server::spawn(command).await
}

/// Plants a bug where one is named, to see that a run finds it. In the database, so that the program stays as it is.
async fn plant(url: &str) {
    let sql = match setting("PLANT", String::new()).as_str() {
        "" => return,
        // What is acknowledged is not on disk yet.
        "early_answer" => "ALTER DATABASE postgres SET synchronous_commit = off",
        // No key is ever bound.
        "forgotten_keys" => {
            "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER forget BEFORE INSERT ON idempotency_keys FOR EACH ROW EXECUTE FUNCTION forget()"
        }
        other => panic!("no bug is named {other}"),
    };
    let connection = Database::connect(url).await.unwrap();
    connection.execute_unprepared(sql).await.unwrap();
    connection.close().await.unwrap();
}

async fn organizations(server: &Server) -> Vec<String> {
    let client = server.client.with_key(ADMIN_KEY);
    let mut organizations = Vec::new();
    for number in 0..ORGANIZATIONS {
        let made = client.post("/v1/organizations").json(json!({ "name": format!("organization {number}") })).await;
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        // One of them runs out of credits soon, so that there are refusals.
        let many = if number == 0 { 50 } else { 100_000_000 };
        let credits = json!({ "ai": many, "whatsapp": many, "email": many, "sms": many });
        let grant = json!({ "credits": credits, "source": "purchase" });
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
