//! Tests of the harness itself: other tests trust it to isolate them, and machines trust it to leave nothing behind.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use tests::postgres;
use tests::redis::{self, Redis};
use tests::scratch::Scratch;
use tests::{Engine, TestDb, both_engines};

/// How long a killed owner's servers may take to be gone. They take a fraction of a second on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

both_engines!(a_new_database_is_migrated, async |db| -> anyhow::Result<()> {
    assert!(tables(&db).await?.contains(&"seaql_migrations".to_owned()));
    Ok(())
});

both_engines!(a_database_sees_nothing_of_others_older_or_newer, async |db| -> anyhow::Result<()> {
    let older = TestDb::new(db.engine()).await?;
    db.connect().await?.execute_unprepared("CREATE TABLE only_here (id integer)").await?;
    let newer = TestDb::new(db.engine()).await?;

    assert!(tables(&db).await?.contains(&"only_here".to_owned()));
    assert!(!tables(&older).await?.contains(&"only_here".to_owned()));
    assert!(!tables(&newer).await?.contains(&"only_here".to_owned()));
    Ok(())
});

both_engines!(the_contents_of_a_database_show_every_change, async |db| -> anyhow::Result<()> {
    let connection = db.connect().await?;
    let contents = db.contents().await?;
    let before = contents.read().await?;
    assert_eq!(contents.read().await?, before);
    for (statement, changed) in [
        ("UPDATE credit_action_versions SET active = NOT active WHERE action_type = 'sms'", "credit_action_versions"),
        ("DELETE FROM seaql_migrations WHERE version LIKE '%organizations'", "seaql_migrations"),
    ] {
        let before = contents.read().await?;
        assert!(connection.execute_unprepared(statement).await?.rows_affected() > 0, "{statement}");
        assert_eq!(contents.read().await?.differences(&before), [changed]);
    }
    Ok(())
});

both_engines!(an_empty_database_has_no_tables, async |db| -> anyhow::Result<()> {
    let empty = TestDb::empty(db.engine()).await?;
    assert_eq!(tables(&empty).await?, Vec::<String>::new());
    Ok(())
});

both_engines!(a_dropped_database_is_gone_even_while_somebody_is_connected, async |db| -> anyhow::Result<()> {
    let url = db.url().to_owned();
    let connection = db.connect().await?;
    connection.execute_unprepared("SELECT 1").await?;
    drop(db);
    // `rwc` in the URL would make a new file.
    let again = Database::connect(url.replace("mode=rwc", "mode=rw")).await;
    assert!(again.is_err(), "{url} is still there");
    Ok(())
});

#[test]
fn what_is_dropped_leaves_no_directory() -> anyhow::Result<()> {
    let scratch = Scratch::start(false)?;
    let postgres = postgres::start(false)?;
    let (directory, data) = (scratch.path().to_owned(), postgres.data_directory());
    std::fs::write(directory.join("file"), "content")?;
    assert!(data.exists());
    drop((scratch, postgres));
    assert!(!directory.exists());
    assert!(!data.exists());
    Ok(())
}

#[tokio::test]
async fn only_a_durable_server_syncs_to_the_disk() -> anyhow::Result<()> {
    for (durable, fsync) in [(true, "on"), (false, "off")] {
        let postgres = postgres::start(durable)?;
        let connection = Database::connect(format!("{}/postgres", postgres.url())).await?;
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            assert_eq!(show(&connection, setting).await?, fsync, "{setting} where durable is {durable}");
        }
        connection.close().await?;
    }
    Ok(())
}

#[test]
fn the_redis_server_answers() -> anyhow::Result<()> {
    let url = redis::shared_url()?;
    let mut stream = TcpStream::connect(url.trim_start_matches("redis://"))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"+PONG\r\n");
    Ok(())
}

#[test]
fn a_private_redis_server_ends_when_dropped() -> anyhow::Result<()> {
    let redis = Redis::start()?;
    let address = redis.url().replace("redis://", "");
    TcpStream::connect(&address)?;
    drop(redis);
    assert!(TcpStream::connect(&address).is_err());
    Ok(())
}

#[test]
fn with_servers_passes_the_exit_status_on() -> anyhow::Result<()> {
    let status = with_servers().args(["sh", "-c", "exit 7"]).status()?;
    assert_eq!(status.code(), Some(7));
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_when_the_command_ends() -> anyhow::Result<()> {
    let mut run = Run::start().await?;
    drop(run.input.take());
    assert!(run.process.wait()?.success());
    assert_eq!(run.remains()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_after_sigterm() -> anyhow::Result<()> {
    let mut run = Run::start().await?;
    Command::new("kill").args(["-TERM", &run.process.id().to_string()]).status()?;
    let status = run.process.wait()?;
    assert_eq!(status.code(), Some(128 + 15), "it ends as its command did");
    assert_eq!(run.remains()?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_after_sigkill() -> anyhow::Result<()> {
    let mut run = Run::start().await?;
    run.process.kill()?;
    assert_eq!(run.process.wait()?.signal(), Some(9));
    let killed = Instant::now();
    while !run.remains()?.is_empty() && killed.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(run.remains()?, Vec::<String>::new());
    Ok(())
}

/// The names of all tables of a database.
async fn tables(db: &TestDb) -> anyhow::Result<Vec<String>> {
    let (backend, sql) = match db.engine() {
        Engine::Sqlite => (DbBackend::Sqlite, "SELECT name FROM sqlite_schema WHERE type = 'table'"),
        Engine::Postgres => (DbBackend::Postgres, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"),
    };
    let connection = db.connect().await?;
    let rows = connection.query_all_raw(Statement::from_string(backend, sql)).await?;
    connection.close().await?;
    rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
}

/// A `with-servers` at work, whose command waits for the end of its input.
struct Run {
    process: Child,
    /// Apart from the process, because waiting for a process closes its input.
    input: Option<ChildStdin>,
    directories: Vec<PathBuf>,
    postmaster: String,
    redis_address: String,
}

impl Run {
    async fn start() -> anyhow::Result<Self> {
        let script = r#"
            echo "$MULTICREDIT_TEST_POSTGRES_URL"
            echo "$MULTICREDIT_TEST_REDIS_URL"
            echo "$MULTICREDIT_TEST_SCRATCH"
            exec cat
        "#;
        let mut process =
            with_servers().args(["sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(process.stdout.take().context("no output")?).lines();
        let mut line = || lines.next().context("the command did not start")?.map_err(anyhow::Error::from);
        let postgres_url = line()?;
        let redis_address = line()?.replace("redis://", "");
        let scratch = PathBuf::from(line()?);
        let (postmaster, data) = postmaster(&postgres_url).await?;
        let directories = vec![scratch, data, redis_directory(&redis_address)?];

        let input = process.stdin.take();
        let run = Self { process, input, directories, postmaster, redis_address };
        ensure!(run.remains()?.len() == 5, "not everything is there to begin with: {:?}", run.remains()?);
        Ok(run)
    }

    /// What of the run is still there.
    fn remains(&self) -> anyhow::Result<Vec<String>> {
        let mut remains = Vec::new();
        for directory in &self.directories {
            if directory.try_exists()? {
                remains.push(directory.display().to_string());
            }
        }
        if Command::new("kill").args(["-0", &self.postmaster]).stderr(Stdio::null()).status()?.success() {
            remains.push(format!("process {}", self.postmaster));
        }
        if TcpStream::connect(&self.redis_address).is_ok() {
            remains.push(format!("redis at {}", self.redis_address));
        }
        Ok(remains)
    }
}

fn with_servers() -> Command {
    Command::new(env!("CARGO_BIN_EXE_with-servers"))
}

/// The process id of a PostgreSQL server and the directory of its data.
async fn postmaster(server_url: &str) -> anyhow::Result<(String, PathBuf)> {
    let connection = Database::connect(format!("{server_url}/postgres")).await?;
    let data = PathBuf::from(show(&connection, "data_directory").await?);
    connection.close().await?;
    let pid_file = std::fs::read_to_string(data.join("postmaster.pid"))?;
    Ok((pid_file.lines().next().context("an empty pid file")?.to_owned(), data))
}

async fn show(connection: &DatabaseConnection, setting: &str) -> anyhow::Result<String> {
    let sql = format!("SELECT current_setting('{setting}')");
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    Ok(row.context("no such setting")?.try_get_by_index(0)?)
}

/// The directory of a Redis server, the last line of its answer.
fn redis_directory(address: &str) -> anyhow::Result<PathBuf> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"CONFIG GET dir\r\nQUIT\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().find(|line| line.starts_with('/')).context("no directory in the answer")?.into())
}
