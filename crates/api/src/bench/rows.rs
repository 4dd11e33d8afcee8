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

/// A procedure in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Procedure {
    /// `consume_credits_rpc`, on the product's tables.
    Rpc,
    /// The seed-style one, on tables of its own.
    Seed,
}

/// How a row is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Requests to the server.
    Http(Call, Whom),
    /// Statements that insert log rows.
    RawInsert,
    /// Calls by `pgbench`.
    Procedure(Procedure, Whom),
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
    /// The engine under it.
    pub engine: Engine,
    /// How it is measured.
    pub work: Work,
    /// From how many connections.
    pub connections: Connections,
}

const fn row(id: &'static str, label: &'static str, engine: Engine, work: Work, connections: Connections) -> Row {
    Row { id, label, engine, work, connections }
}

const FEW: Connections = Connections::BestOf(&[1, 2, 4]);
const POOLS: Connections = Connections::BestOf(&[1, 4, 16, 64]);
const UNIFORM: Whom = Whom::All(Spread::Uniform);
const ZIPF: Whom = Whom::All(Spread::Zipf);

/// Every row, in the order in which a round measures them.
pub const ROWS: &[Row] = {
    use Connections::{Clients, Exactly};
    use Engine::{Postgres, Sqlite};
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
    ]
};

const SEED_ONE: Work = Work::Procedure(Procedure::Seed, Whom::One);
const SEED_ALL: Work = Work::Procedure(Procedure::Seed, UNIFORM);
const RPC_ONE: Work = Work::Procedure(Procedure::Rpc, Whom::One);
const RPC_ALL: Work = Work::Procedure(Procedure::Rpc, UNIFORM);

/// What of two rows is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Rates: more is better.
    Rate,
    /// Median latencies: less is better.
    P50,
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

/// Every ratio.
pub const RATIOS: &[Ratio] = &[
    rates("one-organization-to-nothing", "consume-one", "nothing", Some(0.5)),
    rates("uniform-to-nothing", "consume-uniform", "nothing", Some(0.35)),
    rates("zipf-to-nothing", "consume-zipf", "nothing", None),
    rates("one-organization-to-seed", "consume-one", "seed-one", Some(12.0)),
    rates("uniform-to-seed", "consume-uniform", "seed-uniform", Some(3.0)),
    Ratio {
        id: "one-client-p50-to-seed",
        over: "consume-1",
        under: "seed-1",
        quantity: Quantity::P50,
        reach: Some(1.25),
    },
    rates("batch-to-raw-insert", "batch", "raw-insert", Some(0.8)),
    rates("batch-to-uniform", "batch", "consume-uniform", Some(1.5)),
    rates("rpc-one-organization-to-seed", "rpc-one", "seed-one", None),
    rates("rpc-uniform-to-seed", "rpc-uniform", "seed-uniform", None),
    rates("sqlite-one-organization-to-nothing", "sqlite-consume-one", "sqlite-nothing", Some(0.35)),
    rates("sqlite-uniform-to-nothing", "sqlite-consume-uniform", "sqlite-nothing", Some(0.35)),
];

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
    }
}
