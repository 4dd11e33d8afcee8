//! What is measured: the rows of the table, and the ratios between them.

use multicredit_store::Engine;

use super::draw::Spread;
use super::request::Call;

/// For whom the requests of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// One organization.
    One,
    /// All of them.
    All(Spread),
}

/// A database and the server on it. The rows of a place are measured on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// PostgreSQL without history.
    Postgres,
    /// SQLite without history.
    Sqlite,
    /// PostgreSQL with a Redis, over which balances are cached.
    Cached,
    /// PostgreSQL with an endpoint of webhooks.
    Told,
    /// PostgreSQL with the short history.
    ShortHistory,
    /// PostgreSQL with the long history.
    LongHistory,
}

impl Place {
    /// Its engine.
    pub const fn engine(self) -> Engine {
        match self {
            Self::Sqlite => Engine::Sqlite,
            Self::Postgres | Self::Cached | Self::Told | Self::ShortHistory | Self::LongHistory => Engine::Postgres,
        }
    }

    /// Its name, for people and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
            Self::Cached => "postgres and redis",
            Self::Told => "postgres and webhooks",
            Self::ShortHistory => "short history",
            Self::LongHistory => "long history",
        }
    }
}

/// Something in the database that is called by `pgbench`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Procedure {
    /// `consume_credits_rpc`, on the product's tables.
    Rpc,
    /// The seed-style one, on tables of its own.
    Seed,
    /// The seed's look-up of an organization's balance, on the product's tables.
    LookUp,
}

/// How a row is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Requests to the server.
    Http(Call, Whom),
    /// The same while somebody is told of every consumption.
    Told(Call, Whom),
    /// Statements that insert log rows.
    RawInsert,
    /// Calls by `pgbench`.
    Procedure(Procedure, Whom),
    /// A day's new rows, then rolling up and refreshing the summary, which is what is measured.
    Refresh,
}

/// From how many connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// As many as there are clients.
    Clients,
    /// This many.
    Exactly(usize),
    /// The best of these.
    BestOf(&'static [usize]),
}

impl Connections {
    /// The numbers to try.
    pub fn variants(self, clients: usize) -> Vec<usize> {
        match self {
            Self::Clients => vec![clients],
            Self::Exactly(number) => vec![number],
            Self::BestOf(numbers) => numbers.to_vec(),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name for `--only` and in JSON.
    pub id: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// Where it is measured.
    pub place: Place,
    /// How it is measured.
    pub work: Work,
    /// From how many connections.
    pub connections: Connections,
}

const fn row(id: &'static str, label: &'static str, place: Place, work: Work, connections: Connections) -> Row {
    Row { id, label, place, work, connections }
}

const FEW: Connections = Connections::BestOf(&[1, 2, 4]);
const POOLS: Connections = Connections::BestOf(&[1, 4, 16, 64]);
const UNIFORM: Whom = Whom::All(Spread::Uniform);
const ZIPF: Whom = Whom::All(Spread::Zipf);

/// Every row, in the order in which a round measures them.
pub const ROWS: &[Row] = {
    use Connections::{Clients, Exactly};
    use Place::{Cached, LongHistory, Postgres, ShortHistory, Sqlite, Told};
    use Work::{Http, RawInsert};
    &[
        row("nothing", "do-nothing endpoint", Postgres, Http(Call::Nothing, Whom::One), Clients),
        row("nothing-1", "do-nothing endpoint, one client", Postgres, Http(Call::Nothing, Whom::One), Exactly(1)),
        row("consume-one", "consume, one organization", Postgres, Http(Call::Consume, Whom::One), Clients),
        row("seed-one", "seed-style procedure, one organization", Postgres, SEED_ONE, POOLS),
        row("consume-uniform", "consume, all organizations, uniform", Postgres, Http(Call::Consume, UNIFORM), Clients),
        row("seed-uniform", "seed-style procedure, all, uniform", Postgres, SEED_ALL, POOLS),
        row("consume-zipf", "consume, all organizations, Zipf 1.0", Postgres, Http(Call::Consume, ZIPF), Clients),
        row("consume-1", "consume, one client, one organization", Postgres, Http(Call::Consume, Whom::One), Exactly(1)),
        row("seed-1", "seed-style procedure, one connection", Postgres, SEED_ONE, Exactly(1)),
        row("batch", "batch call of 1,000, rows", Postgres, Http(Call::Batch, UNIFORM), FEW),
        row("raw-insert", "raw bulk insert of 1,000, rows", Postgres, RawInsert, FEW),
        row("rpc-one", "consume_credits_rpc, one organization", Postgres, RPC_ONE, POOLS),
        row("rpc-uniform", "consume_credits_rpc, all, uniform", Postgres, RPC_ALL, POOLS),
        row("sqlite-nothing", "do-nothing endpoint", Sqlite, Http(Call::Nothing, Whom::One), Clients),
        row("sqlite-consume-one", "consume, one organization", Sqlite, Http(Call::Consume, Whom::One), Clients),
        row("sqlite-consume-uniform", "consume, all, uniform", Sqlite, Http(Call::Consume, UNIFORM), Clients),
        row("sqlite-consume-1", "consume, one client", Sqlite, Http(Call::Consume, Whom::One), Exactly(1)),
        row("cached-nothing", "do-nothing endpoint", Cached, Http(Call::Nothing, Whom::One), Clients),
        row("cached-balance", "balance from the cache, all, uniform", Cached, Http(Call::Balance, UNIFORM), Clients),
        row("consume-untold", "consume, all, uniform, nobody is told", Told, CONSUME_ALL, Clients),
        row("consume-told", "consume, all, uniform, an endpoint is told", Told, TELL_ALL, Clients),
        row("short-page", "newest page of history", ShortHistory, Http(Call::Page, UNIFORM), Exactly(1)),
        row("long-page", "newest page of history", LongHistory, Http(Call::Page, UNIFORM), Exactly(1)),
        row("short-usage", "usage of 30 days", ShortHistory, Http(Call::Usage, UNIFORM), Exactly(1)),
        row("long-usage", "usage of 30 days", LongHistory, Http(Call::Usage, UNIFORM), Exactly(1)),
        row("long-look-up", "the seed's look-up of an organization", LongHistory, LOOK_UP, Exactly(1)),
        row("short-consume", "consume, all organizations, uniform", ShortHistory, CONSUME_ALL, Clients),
        row("long-consume", "consume, all organizations, uniform", LongHistory, CONSUME_ALL, Clients),
        row("short-refresh", "refresh of the summary, a day later", ShortHistory, Work::Refresh, Exactly(1)),
        row("long-refresh", "refresh of the summary, a day later", LongHistory, Work::Refresh, Exactly(1)),
    ]
};

const SEED_ONE: Work = Work::Procedure(Procedure::Seed, Whom::One);
const SEED_ALL: Work = Work::Procedure(Procedure::Seed, UNIFORM);
const RPC_ONE: Work = Work::Procedure(Procedure::Rpc, Whom::One);
const RPC_ALL: Work = Work::Procedure(Procedure::Rpc, UNIFORM);
const LOOK_UP: Work = Work::Procedure(Procedure::LookUp, UNIFORM);
const TELL_ALL: Work = Work::Told(Call::Consume, UNIFORM);
const CONSUME_ALL: Work = Work::Http(Call::Consume, UNIFORM);

/// What of two rows is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Rates: more is better.
    Rate,
    /// Median latencies: less is better.
    P50,
    /// Latencies of which 99 of 100 are faster: less is better.
    P99,
}

impl Quantity {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }
}

/// A ratio of two rows, and what it should reach.
#[derive(Debug, Clone, Copy)]
pub struct Ratio {
    /// Its name in JSON.
    pub id: &'static str,
    /// The row above the line.
    pub over: &'static str,
    /// The row below it.
    pub under: &'static str,
    /// What of them.
    pub quantity: Quantity,
    /// The least that it should be, or the most for latencies; none where nothing is promised.
    pub reach: Option<f64>,
}

const fn rates(id: &'static str, over: &'static str, under: &'static str, reach: Option<f64>) -> Ratio {
    Ratio { id, over, under, quantity: Quantity::Rate, reach }
}

const fn latencies(id: &'static str, over: &'static str, under: &'static str, quantity: Quantity, reach: f64) -> Ratio {
    Ratio { id, over, under, quantity, reach: Some(reach) }
}

/// Every ratio.
pub const RATIOS: &[Ratio] = &[
    rates("one-organization-to-nothing", "consume-one", "nothing", Some(0.5)),
    rates("uniform-to-nothing", "consume-uniform", "nothing", Some(0.35)),
    rates("zipf-to-nothing", "consume-zipf", "nothing", None),
    rates("one-organization-to-seed", "consume-one", "seed-one", Some(12.0)),
    rates("uniform-to-seed", "consume-uniform", "seed-uniform", Some(3.0)),
    latencies("one-client-p50-to-seed", "consume-1", "seed-1", Quantity::P50, 1.25),
    rates("batch-to-raw-insert", "batch", "raw-insert", Some(0.8)),
    rates("batch-to-uniform", "batch", "consume-uniform", Some(1.5)),
    rates("rpc-one-organization-to-seed", "rpc-one", "seed-one", None),
    rates("rpc-uniform-to-seed", "rpc-uniform", "seed-uniform", None),
    rates("sqlite-one-organization-to-nothing", "sqlite-consume-one", "sqlite-nothing", Some(0.35)),
    rates("sqlite-uniform-to-nothing", "sqlite-consume-uniform", "sqlite-nothing", Some(0.35)),
    rates("cached-balance-to-nothing", "cached-balance", "cached-nothing", Some(0.85)),
    rates("told-to-untold", "consume-told", "consume-untold", Some(0.9)),
    rates("consume-long-to-short", "long-consume", "short-consume", Some(0.9)),
    latencies("page-long-to-short", "long-page", "short-page", Quantity::P99, 1.5),
    latencies("usage-long-to-short", "long-usage", "short-usage", Quantity::P99, 1.5),
    latencies("refresh-long-to-short", "long-refresh", "short-refresh", Quantity::P50, 3.0),
];

/// A latency that a row should not exceed.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The row.
    pub row: &'static str,
    /// Which of its latencies.
    pub quantity: Quantity,
    /// The most that it should be, in microseconds.
    pub reach_us: f64,
}

/// Every limit. The one there is, is what the seed's performance report measured, with 14 rows in its database.
pub const LIMITS: &[Limit] = &[Limit { row: "long-look-up", quantity: Quantity::P99, reach_us: 1_326.0 }];

/// What the server may have resident, in bytes.
pub const RESIDENT_REACH_BYTES: u64 = 100 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_ratios_are_of_rows_that_exist() {
        let ids: HashSet<_> = ROWS.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), ROWS.len());
        for ratio in RATIOS {
            assert!(ids.contains(ratio.over) && ids.contains(ratio.under), "{}", ratio.id);
        }
        assert!(LIMITS.iter().all(|limit| ids.contains(limit.row)));
    }
}
