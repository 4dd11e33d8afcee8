//! `GET /metrics`: what this process measures, in the text format of Prometheus.
//!
//! Names carry their unit; labels are few and from fixed lists, and none names an organization, a key or anything that a
//! caller sent. What is counted on the hot path is counted by [`multicredit_store::stats`] and [`http`]; writing the
//! page is the only place that formats. Numbers of the database are asked for at most every few seconds, however many
//! scrape. `docs/adr/0009-metrics.md` says why this is no library.

pub mod http;
mod process;
mod text;

use multicredit_store::performance::Thresholds;
use multicredit_store::stats::{DecidedBy, PoolShare, Stats};
use multicredit_store::{DeliveryOutcome, Engine};
use poem::endpoint::BoxEndpoint;
use poem::http::HeaderValue;
use poem::{Body, Endpoint, EndpointExt as _, Request, Response};
use poem_openapi::OperationId;

use self::http::CLASSES;
use self::text::{Kind, Page, Unit};
use crate::app::{Context, State};
use crate::auth;
use crate::auth::scope::Observe;
use crate::config::MetricsAccess;
use crate::problem::{Code, Problem};
use crate::server::Connections;

pub use self::process::remember_start;

/// The page's operation, as requests for it are counted.
pub const OPERATION: &str = "metrics";

/// The page.
pub fn page() -> BoxEndpoint<'static> {
    MetricsPage.boxed()
}

struct MetricsPage;

impl Endpoint for MetricsPage {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let context = Context::of(&request)?;
        let state = context.state();
        match state.settings.metrics {
            MetricsAccess::Open => {}
            MetricsAccess::Key => auth::require::<Observe>(&context, &request).await?,
            MetricsAccess::Off => return Err(Problem::new(Code::UnknownPath).into()),
        }
        let text = render(state).await;
        let mut response = Response::builder().content_type(text::CONTENT_TYPE).body(Body::from_string(text));
        response.headers_mut().insert("cache-control", HeaderValue::from_static("no-store"));
        response.set_data(OperationId(OPERATION));
        Ok(response)
    }
}

async fn render(state: &State) -> String {
    let mut page = Page::default();
    let stats = state.store.stats();
    write_build(&mut page, state);
    write_http(&mut page, state);
    write_connections(&mut page, &state.settings.connections);
    write_ledger(&mut page, stats, state.store.queued_requests());
    write_pool(&mut page, state);
    write_database(&mut page, state).await;
    write_tables(&mut page, state).await;
    write_thresholds(&mut page, &state.settings.thresholds);
    write_jobs(&mut page, stats);
    write_caches(&mut page, state);
    write_webhooks(&mut page, stats);
    process::write(&mut page);
    page.into_text()
}

fn write_webhooks(page: &mut Page, stats: &Stats) {
    page.family("multicredit_webhook_deliveries_total", Kind::Counter, "Attempts to deliver webhooks.");
    for outcome in DeliveryOutcome::ALL {
        page.sample(&[("outcome", outcome.as_str())], stats.webhooks.count(outcome));
    }
    page.family("multicredit_webhook_delivery_duration_seconds", Kind::Histogram, "How long such an attempt took.")
        .histogram(&[], Unit::Microseconds, &stats.webhooks.took.snapshot());
}

fn write_build(page: &mut Page, state: &State) {
    let engine = match state.store.engine() {
        Engine::Sqlite => "sqlite",
        Engine::Postgres => "postgres",
    };
    let labels = [("version", state.settings.version), ("engine", engine)];
    page.family("multicredit_build_info", Kind::Gauge, "Always 1; what runs.").sample(&labels, 1);
}

fn write_http(page: &mut Page, state: &State) {
    let counted: Vec<_> = state
        .http
        .routes()
        .iter()
        .flat_map(|route| {
            CLASSES.iter().zip(&route.durations).map(|(class, durations)| {
                let labels = [("route", route.route.as_str()), ("method", route.method.as_str()), ("status", *class)];
                (labels, durations.snapshot())
            })
        })
        .filter(|(_, durations)| durations.count() > 0)
        .collect();
    page.family("multicredit_http_requests_total", Kind::Counter, "Answered requests.");
    for (labels, durations) in &counted {
        page.sample(labels, durations.count());
    }
    let help = "From the request's head to its answer, the body's arrival included.";
    page.family("multicredit_http_request_duration_seconds", Kind::Histogram, help);
    for (labels, durations) in &counted {
        page.histogram(labels, Unit::Microseconds, durations);
    }
}

fn write_connections(page: &mut Page, connections: &Connections) {
    page.single("multicredit_http_connections", Kind::Gauge, "Connections that are served.", connections.open());
    page.single("multicredit_http_connections_max", Kind::Gauge, "How many there may be.", connections.max());
    let help = "Connections that were turned away because there were too many.";
    page.single("multicredit_http_connections_refused_total", Kind::Counter, help, connections.turned_away());
}

fn write_ledger(page: &mut Page, stats: &Stats, queued: usize) {
    let ledger = &stats.ledger;
    let help = "What became of requests to the ledger; consumptions are those with operation=\"consume\".";
    page.family("multicredit_ledger_verdicts_total", Kind::Counter, help);
    // Consumptions always, so that a rate over a verdict that has not happened yet is 0 and not absent.
    for (operation, verdict, count) in ledger.verdicts().filter(|(it, _, count)| *count > 0 || *it == "consume") {
        page.sample(&[("operation", operation), ("verdict", verdict)], count);
    }
    page.family("multicredit_ledger_rejected_total", Kind::Counter, "Requests turned away before they were queued.")
        .sample(&[("reason", "overloaded")], ledger.rejected_busy.get())
        .sample(&[("reason", "too_many_requests")], ledger.rejected_organization_busy.get());
    page.single(
        "multicredit_ledger_queue_requests",
        Kind::Gauge,
        "Requests that wait for the ledger's writer.",
        queued,
    );
    page.family("multicredit_ledger_queue_wait_seconds", Kind::Histogram, "How long requests waited for the writer.")
        .histogram(&[], Unit::Microseconds, &ledger.queue_wait.snapshot());
    page.family("multicredit_ledger_batch_requests", Kind::Histogram, "How many requests were decided together.")
        .histogram(&[], Unit::Count, &ledger.batch_requests.snapshot());
    page.family("multicredit_ledger_decided_total", Kind::Counter, "Requests by the path that decided them.");
    for path in DecidedBy::ALL {
        page.sample(&[("path", path.as_str())], ledger.path(path).decided.get());
    }
    let help = "How long a batch took from its first statement until it was durable.";
    page.family("multicredit_ledger_commit_duration_seconds", Kind::Histogram, help);
    for path in DecidedBy::ALL {
        let commit = ledger.path(path).commit.snapshot();
        page.histogram(&[("path", path.as_str())], Unit::Microseconds, &commit);
    }
    let help = "Batches that were tried again after contention or a lost connection.";
    page.single("multicredit_ledger_retries_total", Kind::Counter, help, ledger.retries.get());
}

fn write_pool(page: &mut Page, state: &State) {
    let gauges = state.store.pool_gauges();
    page.single("multicredit_pool_connections_max", Kind::Gauge, "Connections that the pool may have.", gauges.max);
    page.family("multicredit_pool_connections", Kind::Gauge, "Open connections of the pool.")
        .sample(&[("state", "idle")], gauges.idle)
        .sample(&[("state", "in_use")], gauges.open - gauges.idle);
    let pool = &state.store.stats().pool;
    let help = "How long it took until a connection of the share was free.";
    page.family("multicredit_pool_acquire_wait_seconds", Kind::Histogram, help);
    for share in PoolShare::ALL {
        page.histogram(&[("share", share.as_str())], Unit::Microseconds, &pool.share(share).wait.snapshot());
    }
    let help = "How often no connection of the share became free in time.";
    page.family("multicredit_pool_acquire_timeouts_total", Kind::Counter, help);
    for share in PoolShare::ALL {
        page.sample(&[("share", share.as_str())], pool.share(share).timeouts.get());
    }
}

async fn write_database(page: &mut Page, state: &State) {
    let gauges = state.store.database_gauges().await;
    page.single(
        "multicredit_database_up",
        Kind::Gauge,
        "Whether the database answered when it was last asked.",
        u8::from(gauges.is_some()),
    );
    let Some(gauges) = gauges else { return };
    page.single("multicredit_holds_open", Kind::Gauge, "Open holds; at most 100000 are counted.", gauges.holds_open);
    page.single(
        "multicredit_boundaries_overdue",
        Kind::Gauge,
        "Organizations with a boundary that has come and is not booked; at most 100000 are counted.",
        gauges.boundaries_overdue,
    );
    page.single(
        "multicredit_boundary_overdue_seconds",
        Kind::Gauge,
        "By how much the oldest boundary that is not booked is late.",
        gauges.boundary_overdue_seconds,
    );
}

/// On PostgreSQL, which counts.
async fn write_tables(page: &mut Page, state: &State) {
    let Some(gauges) = state.store.table_gauges().await else { return };
    page.family("multicredit_table_live_rows", Kind::Gauge, "Rows of a table, as PostgreSQL estimates.");
    for table in &gauges.tables {
        page.sample(&[("table", &table.name)], table.live.unwrap_or_default());
    }
    page.family("multicredit_table_dead_rows", Kind::Gauge, "Rows that nobody sees and vacuum has not removed yet.");
    for table in &gauges.tables {
        page.sample(&[("table", &table.name)], table.dead.unwrap_or_default());
    }
    page.family("multicredit_table_index_scan_ratio", Kind::Gauge, "The share of reads of a table by an index.");
    for table in &gauges.tables {
        if let Some(ratio) = table.index_ratio() {
            page.sample(&[("table", &table.name)], ratio);
        }
    }
    if let Some(ratio) = gauges.buffer_hit_ratio {
        page.single(
            "multicredit_buffer_hit_ratio",
            Kind::Gauge,
            "The share of blocks found in PostgreSQL's memory.",
            ratio,
        );
    }
}

fn write_thresholds(page: &mut Page, thresholds: &Thresholds) {
    page.family("multicredit_threshold_seconds", Kind::Gauge, "The performance report's thresholds of time.")
        .sample(&[("threshold", "consumption_target")], thresholds.consumption_target_ms / 1e3)
        .sample(&[("threshold", "planning_target")], thresholds.planning_target_ms / 1e3)
        .sample(&[("threshold", "query_warning")], thresholds.query_warning_ms / 1e3)
        .sample(&[("threshold", "query_critical")], thresholds.query_critical_ms / 1e3);
    page.family("multicredit_threshold_ratio", Kind::Gauge, "The performance report's thresholds of shares.")
        .sample(&[("threshold", "index_min")], thresholds.index_ratio_min)
        .sample(&[("threshold", "index_target")], thresholds.index_ratio_target)
        .sample(&[("threshold", "cache_min")], thresholds.cache_ratio_min);
    page.family("multicredit_threshold_rows", Kind::Gauge, "The performance report's thresholds of rows.")
        .sample(&[("threshold", "dead_max")], thresholds.dead_rows_max)
        .sample(&[("threshold", "index_ratio_min")], thresholds.index_ratio_rows_min);
}

fn write_jobs(page: &mut Page, stats: &Stats) {
    let jobs = stats.jobs.all();
    page.family("multicredit_job_runs_total", Kind::Counter, "Runs of background jobs.");
    for (job, runs) in &jobs {
        page.sample(&[("job", job), ("outcome", "success")], runs.succeeded);
        page.sample(&[("job", job), ("outcome", "failure")], runs.failed);
    }
    page.family("multicredit_job_duration_seconds", Kind::Summary, "How long runs of background jobs took.");
    for (job, runs) in &jobs {
        page.summary(&[("job", job)], runs.took.as_secs_f64(), runs.succeeded + runs.failed);
    }
    let help = "When a background job last succeeded, in seconds since 1970.";
    page.family("multicredit_job_last_success_timestamp_seconds", Kind::Gauge, help);
    for (job, runs) in &jobs {
        if let Some(at) = runs.last_success_at {
            page.sample(&[("job", job)], at.timestamp());
        }
    }
}

fn write_caches(page: &mut Page, state: &State) {
    let help = "1 while others tell of their changes; at 0 nothing of the database's is cached.";
    page.single("multicredit_caches_informed", Kind::Gauge, help, u8::from(state.store.caches_are_informed()));
    let caches = state.store.stats().caches.all();
    page.family("multicredit_cache_requests_total", Kind::Counter, "Look-ups in caches.");
    for (name, cache) in &caches {
        page.sample(&[("cache", name), ("result", "hit")], cache.hits.get());
        page.sample(&[("cache", name), ("result", "miss")], cache.misses.get());
    }
    page.family("multicredit_cache_redis_hits_total", Kind::Counter, "Look-ups that Redis answered; hits too.");
    for (name, cache) in &caches {
        page.sample(&[("cache", name)], cache.redis_hits.get());
    }
    page.family("multicredit_cache_hit_ratio", Kind::Gauge, "The share of look-ups that were hits, since the start.");
    for (name, cache) in &caches {
        if let Some(ratio) = cache.hit_ratio() {
            page.sample(&[("cache", name)], ratio);
        }
    }
    let help = "What the hits have saved, taking each for an average look into the database.";
    page.family("multicredit_cache_saved_seconds_total", Kind::Counter, help);
    for (name, cache) in &caches {
        page.sample(&[("cache", name)], cache.saved_seconds());
    }
    page.family("multicredit_cache_age_seconds", Kind::Histogram, "How old the hits were.");
    for (name, cache) in &caches {
        page.histogram(&[("cache", name)], Unit::Microseconds, &cache.age.snapshot());
    }
    page.family("multicredit_cache_load_duration_seconds", Kind::Histogram, "How long misses took in the database.");
    for (name, cache) in &caches {
        page.histogram(&[("cache", name)], Unit::Microseconds, &cache.load.snapshot());
    }
}
