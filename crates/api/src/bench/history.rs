//! A year of history as a server would have left it: rows of the log, and balances and sequences that agree with them.
//!
//! The rows come in order of time, as they would from a server, and organizations work in sessions: in each quarter of an
//! hour some of them do, each a few times. So an organization's history lies all over the table, and rollups have fewer
//! rows than the log.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use multicredit_store::{Job, JobRun, Store, StoreConfig, clock};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::data::BALANCE;
use super::databases;
use super::draw::Random;
use super::rows::Place;

/// How long the history is, whatever its rows: the long one is denser, not longer.
const PERIOD: TimeDelta = TimeDelta::days(365);

/// How many times fewer rows the short history has.
const LONG_TO_SHORT: u64 = 100;

/// In which steps of time organizations come and go, as rollups have them.
const QUARTER: TimeDelta = TimeDelta::minutes(15);

/// How often an organization consumes in a session, about.
const SESSION_ROWS: u64 = 8;

/// How much is handed to the database at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// Servers with history leave rolling up and refreshing to [`History::refresh`], which measures it.
pub const SERVER_SETTINGS: [(&str, &str); 2] =
    [("MULTICREDIT_ROLL_UP_SECONDS", "86400"), ("MULTICREDIT_REFRESH_SECONDS", "86400")];

const COPY: &str = "COPY credit_consumption_logs (organization_id, id, action_type, quantity, success, created_at, \
    sequence, price_version, ai_credits_consumed, ai_credits_available_after, whatsapp_credits_available_after, \
    email_credits_available_after, sms_credits_available_after) FROM STDIN";

const MAKE_PARTITIONS: &str = "SELECT ensure_consumption_log_partitions($1, 14)";

/// Everything that was made just now, made before the history began.
const BACKDATE: [&str; 4] = [
    "UPDATE organizations SET created_at = $1, updated_at = $1",
    "UPDATE organization_credits SET last_movement_at = $1",
    "UPDATE credit_grants SET created_at = $1, effective_at = $1",
    "UPDATE credit_movements SET created_at = $1",
];

const SPEND: &str = "UPDATE organization_credits AS c SET ai_credits_available = c.ai_credits_available - v.spent, \
    sequence = c.sequence + v.spent, last_movement_at = v.last_at \
    FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS v(id, spent, last_at) WHERE c.organization_id = v.id";

/// How many rows a place's log has to begin with; `None` for places without history.
pub fn rows(place: Place, long: Option<u64>) -> Option<u64> {
    match place {
        Place::Postgres | Place::Sqlite | Place::Cached | Place::Told => None,
        Place::ShortHistory => long.map(|rows| rows / LONG_TO_SHORT),
        Place::LongHistory => long,
    }
}

/// How many rows come to the long history in a day.
pub fn per_day(long: Option<u64>) -> u64 {
    let days = u64::try_from(PERIOD.num_days()).unwrap_or(1);
    long.unwrap_or(0).div_ceil(days)
}

/// A database with history.
pub struct History {
    store: Store,
    /// How many rows of the log it had to begin with.
    pub rows: u64,
    /// How many rows the long history gets in a day.
    pub day: u64,
}

/// What an organization has done so far.
#[derive(Clone, Copy)]
struct Spent {
    rows: i64,
    last_at: DateTime<Utc>,
}

impl History {
    /// Loads that many rows for organizations that were granted credits and have done nothing yet.
    pub async fn load(url: &str, organizations: &[Uuid], rows: u64, day: u64) -> anyhow::Result<Self> {
        let mut connection = PgConnection::connect(url).await.context("cannot connect to load history")?;
        let until = clock::now();
        let from = until - PERIOD;
        sqlx::query(MAKE_PARTITIONS).bind(from.date_naive()).execute(&mut connection).await?;
        let spent = copy(&mut connection, organizations, rows, from).await.context("cannot copy the log's rows")?;
        for statement in BACKDATE {
            sqlx::query(statement).bind(from).execute(&mut connection).await?;
        }
        let ids: Vec<Uuid> = organizations.to_vec();
        let counts: Vec<i64> = spent.iter().map(|spent| spent.rows).collect();
        let instants: Vec<DateTime<Utc>> = spent.iter().map(|spent| spent.last_at).collect();
        sqlx::query(SPEND).bind(ids).bind(counts).bind(instants).execute(&mut connection).await?;
        connection.close().await?;
        databases::execute(url, "VACUUM (ANALYZE)").await?;

        let store = Store::open(StoreConfig::new(url)).await.context("cannot open the database")?;
        let history = Self { store, rows, day };
        history.refresh().await.context("cannot roll the history up")?;
        databases::execute(url, "VACUUM (ANALYZE)").await?;
        databases::execute(url, "CHECKPOINT").await?;
        Ok(history)
    }

    /// Rolls up what is new and refreshes the summary. Answers how long both took.
    pub async fn refresh(&self) -> anyhow::Result<Duration> {
        let started_at = Instant::now();
        for job in [Job::RollUpUsage, Job::RefreshSummary] {
            if !matches!(self.store.do_job(job, None).await?, JobRun::Done(_)) {
                bail!("somebody else refreshes");
            }
        }
        Ok(started_at.elapsed())
    }

    /// Lets go of the database.
    pub async fn close(self) {
        self.store.close().await;
    }
}

/// Copies the rows in and answers what each organization has spent by them.
async fn copy(
    connection: &mut PgConnection,
    organizations: &[Uuid],
    rows: u64,
    from: DateTime<Utc>,
) -> anyhow::Result<Vec<Spent>> {
    let mut spent = vec![Spent { rows: 0, last_at: from }; organizations.len()];
    let mut draw = Sessions::new(organizations.len(), rows);
    let mut into = connection.copy_in_raw(COPY).await?;
    let mut chunk = String::with_capacity(CHUNK_BYTES + 1_024);
    for nth in 0..rows {
        let at = from + offset(nth, rows);
        let (place, id) = draw.next(at);
        let spent = &mut spent[place];
        *spent = Spent { rows: spent.rows + 1, last_at: at };
        write_row(&mut chunk, organizations[place], id, *spent);
        if chunk.len() >= CHUNK_BYTES {
            into.send(chunk.as_bytes()).await?;
            chunk.clear();
        }
    }
    into.send(chunk.as_bytes()).await?;
    let copied = into.finish().await?;
    if copied != rows {
        bail!("{copied} rows arrived of {rows}");
    }
    Ok(spent)
}

/// When the nth row was, from the beginning.
fn offset(nth: u64, rows: u64) -> TimeDelta {
    let period = i128::from(PERIOD.num_seconds()) * 1_000_000;
    let micros = period * i128::from(nth) / i128::from(rows.max(1));
    TimeDelta::microseconds(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// A consumption of one credit, which is what the sequence counts beside the grant.
fn write_row(text: &mut String, organization: Uuid, id: Uuid, spent: Spent) {
    let before = BALANCE.get();
    let _ = writeln!(
        text,
        "{organization}\t{id}\tai_chat\t1\tt\t{at}\t{sequence}\t1\t1\t{after}\t{before}\t{before}\t{before}",
        at = spent.last_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        sequence = spent.rows + 1,
        after = before - spent.rows,
    );
}

/// Who consumes next: those whose session it is, in any order.
struct Sessions {
    random: Random,
    organizations: usize,
    /// How many have a session at a time.
    at_once: usize,
    quarter: i64,
    active: Vec<usize>,
}

impl Sessions {
    fn new(organizations: usize, rows: u64) -> Self {
        let quarters = u64::try_from(PERIOD.num_seconds() / QUARTER.num_seconds()).unwrap_or(1);
        let at_once = usize::try_from(rows.div_ceil(quarters * SESSION_ROWS)).unwrap_or(usize::MAX);
        Self { random: Random::new(0x6869_7374), organizations, at_once, quarter: -1, active: Vec::new() }
    }

    /// The place of the next organization, and the id of what it does at that instant.
    fn next(&mut self, at: DateTime<Utc>) -> (usize, Uuid) {
        let quarter = at.timestamp().div_euclid(QUARTER.num_seconds());
        if quarter != self.quarter {
            self.quarter = quarter;
            self.active = (0..self.at_once).map(|_| self.random.below(self.organizations)).collect();
        }
        let place = self.active[self.random.below(self.active.len())];
        let mut noise = [0; 10];
        noise[..8].copy_from_slice(&self.random.next().to_le_bytes());
        noise[8..].copy_from_slice(&self.random.next().to_le_bytes()[..2]);
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        (place, uuid::Builder::from_unix_timestamp_millis(millis, &noise).into_uuid())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn rows_are_spread_over_the_year_in_order_and_in_sessions() {
        let rows = 1_000_000;
        assert_eq!(offset(0, rows), TimeDelta::zero());
        assert!(offset(rows - 1, rows) < PERIOD && offset(rows - 1, rows) > PERIOD - TimeDelta::minutes(1));
        assert!((1..1_000).all(|nth| offset(nth, rows) > offset(nth - 1, rows)));

        // 28 rows a quarter of an hour: four organizations, each of which does several of them.
        let mut sessions = Sessions::new(10_000, rows);
        let from = DateTime::<Utc>::UNIX_EPOCH;
        let mut seen = BTreeMap::<usize, u32>::new();
        for nth in 0..28 {
            let (place, id) = sessions.next(from + offset(nth, rows));
            assert_eq!(id.get_version_num(), 7);
            *seen.entry(place).or_default() += 1;
        }
        assert!(seen.len() <= 4 && seen.values().any(|rows| *rows > 3), "{seen:?}");
        let (later, _) = sessions.next(from + TimeDelta::hours(1));
        assert!(!seen.contains_key(&later));
    }

    #[test]
    fn the_short_history_is_a_hundredth_and_other_places_have_none() {
        assert_eq!(rows(Place::LongHistory, Some(10_000_000)), Some(10_000_000));
        assert_eq!(rows(Place::ShortHistory, Some(10_000_000)), Some(100_000));
        assert_eq!(rows(Place::Postgres, Some(10_000_000)), None);
        assert_eq!(per_day(Some(10_000_000)), 27_398);
    }
}
