//! The bulk insert that a batch call is compared with: rows into the same table, without deciding anything.

use std::time::{Duration, Instant};

use anyhow::Context;
use multicredit_store::clock;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::draw::Random;
use super::load::Tally;
use super::request::BATCH_ITEMS;

/// Fills every column that the product fills for a consumption.
const INSERT: &str = "INSERT INTO credit_consumption_logs (organization_id, id, action_type, quantity, success, \
    metadata, created_at, occurred_at, sequence, price_version, actor, ai_credits_consumed, whatsapp_credits_consumed, \
    email_credits_consumed, sms_credits_consumed, ai_credits_available_after, whatsapp_credits_available_after, \
    email_credits_available_after, sms_credits_available_after) \
    SELECT v.organization_id, v.id, 'ai_chat', 1, true, NULL, now(), NULL, v.sequence, 1, NULL, 1, 0, 0, 0, v.after, \
    1000000, 1000000, 1000000 \
    FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[]) AS v(organization_id, id, sequence, after)";

/// Inserts into that database from some connections. What is counted is statements of [`BATCH_ITEMS`] rows.
pub async fn run(
    url: &str,
    organizations: &[Uuid],
    connections: usize,
    warm_up: Duration,
    measured: Duration,
) -> anyhow::Result<Tally> {
    let mut ready = Vec::with_capacity(connections);
    for _ in 0..connections {
        ready.push(PgConnection::connect(url).await.context("cannot connect for the bulk insert")?);
    }
    let from = Instant::now() + warm_up;
    let until = from + measured;
    let inserting = ready.into_iter().zip(1..).map(|(connection, seed)| {
        let organizations = organizations.to_vec();
        tokio::spawn(insert(connection, organizations, Random::new(seed), from, until))
    });
    let mut total = Tally::default();
    for connection in inserting.collect::<Vec<_>>() {
        total.add(&connection.await??);
    }
    Ok(total)
}

async fn insert(
    mut connection: PgConnection,
    organizations: Vec<Uuid>,
    mut random: Random,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let mut sequence = 0_i64;
    let mut sent_at = Instant::now();
    while sent_at < until {
        let whose: Vec<Uuid> = (0..BATCH_ITEMS).map(|_| organizations[random.below(organizations.len())]).collect();
        let ids: Vec<Uuid> = (0..BATCH_ITEMS).map(|_| clock::new_uuid()).collect();
        let sequences: Vec<i64> = (0..BATCH_ITEMS).zip(sequence..).map(|(_, number)| number).collect();
        sequence += i64::try_from(BATCH_ITEMS)?;
        let after: Vec<i64> = sequences.iter().map(|number| 1_000_000_000_000 - number).collect();
        sqlx::query(INSERT).bind(whose).bind(ids).bind(sequences).bind(after).execute(&mut connection).await?;
        let done_at = Instant::now();
        tally.acknowledged += 1;
        if done_at >= from && done_at < until {
            tally.done += 1;
            tally.latencies.record(done_at - sent_at);
        }
        sent_at = done_at;
    }
    connection.close().await?;
    Ok(tally)
}
