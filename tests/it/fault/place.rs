//! Where the runs take place in which nothing goes wrong but that there is too much of everything: a database that syncs
//! to a disk, and servers as processes, with nothing between them.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use multicredit::limits::CONNECTIONS_DEFAULT;
use sea_orm::{ConnectionTrait as _, Database, DbBackend, QueryResult, Statement};
use serde_json::{Value, json};
use tests::proxy::Proxy;
use tests::scratch::Scratch;
use tests::{Engine, postgres};

use super::plant::{self, Plant};
use super::setting;
use super::small_disk::SmallDisk;
use crate::cli::process::{Server, program};

/// The admin key of every server of a run.
pub const ADMIN_KEY: &str = "the-admin-key-of-the-fault-run-0123456789";

/// A database and its servers.
pub struct Place {
    pub servers: Vec<Server>,
    engine: Engine,
    /// The database itself, for whoever compares.
    url: String,
    proxy: Option<Proxy>,
    // What follows is held: it goes when the servers have gone.
    _postgres: Option<postgres::Postgres>,
    _directory: Option<Scratch>,
}

impl Place {
    /// A new database, with as many servers as it is said; with a proxy between them if they are to be moved apart.
    pub async fn start(engine: Engine, servers: usize, is_movable: bool) -> Self {
        let (mut postgres, mut directory) = (None, None);
        let url = match engine {
            Engine::Postgres => {
                let server = tokio::task::spawn_blocking(|| postgres::start(true)).await.unwrap().unwrap();
                let url = format!("{}/postgres", server.url());
                postgres = Some(server);
                url
            }
            Engine::Sqlite => {
                let scratch = tokio::task::spawn_blocking(|| Scratch::start(true)).await.unwrap().unwrap();
                let url = sqlite_in(&scratch);
                directory = Some(scratch);
                url
            }
        };
        Self { _postgres: postgres, _directory: directory, ..Self::over(engine, url, servers, is_movable).await }
    }

    /// A server on an SQLite file, on a disk that can be filled.
    ///
    /// # Errors
    ///
    /// Why that cannot be done here.
    pub async fn on_a_small_disk() -> Result<(Self, SmallDisk), String> {
        let scratch = tokio::task::spawn_blocking(|| Scratch::start(true)).await.unwrap().unwrap();
        let owner = std::fs::metadata("/proc/self").unwrap();
        let disk = SmallDisk::on(scratch.path(), (owner.uid(), owner.gid()))?;
        let url = sqlite_in(&scratch);
        Ok((Self { _directory: Some(scratch), ..Self::over(Engine::Sqlite, url, 1, false).await }, disk))
    }

    async fn over(engine: Engine, url: String, servers: usize, is_movable: bool) -> Self {
        // A proxy costs time, so there is one only where it has something to do.
        let lies = Plant::wanted().is_some_and(|plant| plant.lie().is_some());
        let (proxy, told) = if lies || is_movable {
            let (proxy, url) = Proxy::before_database(&url).await;
            (Some(proxy), url)
        } else {
            (None, url.clone())
        };
        let mut started = Vec::new();
        for _ in 0..servers {
            let arguments = ["serve", "--migrate", "--admin-key", ADMIN_KEY];
            let mut command = program(&told, &arguments);
            command.env("MULTICREDIT_LOG", "error");
            let connections = setting("SERVED", CONNECTIONS_DEFAULT);
            command.env("MULTICREDIT_CONNECTIONS_MAX", connections.to_string());
            started.push(Server::spawn(command).await);
        }
        plant::plant(&url, proxy.as_ref()).await;
        Self { servers: started, engine, url, proxy, _postgres: None, _directory: None }
    }

    /// Moves the servers so far away from the database.
    pub fn move_apart(&self, distance: Duration) {
        self.proxy.as_ref().unwrap().distance(distance);
    }

    /// Makes an organization of that name with as many credits of each type; answers its id.
    pub async fn organization(&self, name: &str, credits: u64) -> String {
        let client = self.servers[0].client.with_key(ADMIN_KEY);
        let made = client.post("/v1/organizations").json(json!({ "name": name })).await;
        let id = made.expect(201)["id"].as_str().unwrap().to_owned();
        let grant = json!({ "credits": each_type(credits), "source": "purchase" });
        client.post(&format!("/v1/organizations/{id}/grants")).json(grant).await.expect(201);
        id
    }

    /// What a query past the product's code answers.
    pub async fn rows(&self, sql: String) -> Vec<QueryResult> {
        let backend = match self.engine {
            Engine::Postgres => DbBackend::Postgres,
            Engine::Sqlite => DbBackend::Sqlite,
        };
        let connection = Database::connect(&self.url).await.unwrap();
        let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await.unwrap();
        connection.close().await.unwrap();
        rows
    }

    /// How many consumptions are in the ledger.
    pub async fn consumptions(&self) -> i64 {
        let sql = "SELECT COUNT(*) FROM credit_consumption_logs WHERE success".to_owned();
        self.rows(sql).await[0].try_get_by_index(0).unwrap()
    }

    pub async fn verify(&self) -> Option<String> {
        verify(&self.url).await
    }
}

fn sqlite_in(directory: &Scratch) -> String {
    format!("sqlite://{}?mode=rwc", directory.path().join("multicredit.db").display())
}

/// As many credits of each type.
pub fn each_type(credits: u64) -> Value {
    json!({ "ai": credits, "whatsapp": credits, "email": credits, "sms": credits })
}

/// What `multicredit verify` complains of. It takes as long as it takes: minutes, after a long run.
pub async fn verify(url: &str) -> Option<String> {
    let ended = program(url, &["verify", "--format", "json"]).output().await.unwrap();
    (ended.status.code() != Some(0)).then(|| format!("{ended:?}"))
}
