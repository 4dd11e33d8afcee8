//! `multicredit serve`: from a database to a listening server, and in order back.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use multicredit_store::Store;
use tokio::time::{Instant, sleep, timeout_at};

use super::demo::{self, Demo};
use super::{Outcome, admin_key, database, output};
use crate::app::{self, AppSettings, Readiness};
use crate::auth::token::Tokens;
use crate::background::Background;
use crate::config::{Secret, ServeArgs};
use crate::rate_limit::RateLimitSettings;
use crate::report::schedule::ReportKeeper;
use crate::server::{self, Connections, Ended, Listener};
use crate::shutdown::{self, StopSignals};
use crate::webhook::courier::Courier;
use crate::webhook::deliverer::Deliverer;

/// Serves until a signal comes.
pub async fn run(args: ServeArgs) -> anyhow::Result<Outcome> {
    if let Some(secret) = &args.admin_key {
        admin_key::check(secret)?;
    }
    let tokens = args.tokens.settings().map(Tokens::open).transpose()?.map(Arc::new);
    let store = database::open_to_maintain(&args.database, args.retention, "serve").await?;
    match start(&args, &store).await {
        Ok((listener, signals)) => serve(listener, signals, store, &args, tokens).await,
        Err(error) => {
            store.close().await;
            Err(error)
        }
    }
}

/// Makes what must be there before the first request, and says where the server is and how to get in.
async fn start(args: &ServeArgs, store: &Store) -> anyhow::Result<(Listener, StopSignals)> {
    // Before a key is made: a second server, which finds its port taken, must not leave one behind.
    let listener = Listener::bind(&args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    if let Some(secret) = &args.admin_key {
        admin_key::register(store, secret, admin_key::CONFIGURED).await?;
    }
    let demo =
        if args.demo { Some(demo::prepare(store, &args.data_dir, args.admin_key.as_ref()).await?) } else { None };
    if args.admin_key.is_none() {
        admin_key::make_first(store, show_once).await?;
    }
    // Before anybody is told: whoever reads that we listen may stop us at once.
    let signals = StopSignals::listen().context("cannot take signals over")?;
    announce(listener.address(), demo.as_ref());
    Ok((listener, signals))
}

/// Not into the log, which is kept: to whoever started the server.
fn show_once(secret: &Secret) -> anyhow::Result<()> {
    output::print(&format!("admin key, shown only now: {}", secret.expose())).context("cannot show the first admin key")
}

/// Says where the server listens: to the log, and to whoever waits for the line on standard output.
fn announce(address: SocketAddr, demo: Option<&Demo>) {
    tracing::info!(%address, "listening");
    let introduction = demo.map(|demo| demo.describe(address)).unwrap_or_default();
    // Nobody needs to listen to a server's standard output.
    let _ = output::print(format!("listening on http://{address}\n{introduction}").trim_end());
}

async fn serve(
    listener: Listener,
    mut signals: StopSignals,
    store: Store,
    args: &ServeArgs,
    tokens: Option<Arc<Tokens>>,
) -> anyhow::Result<Outcome> {
    let delay = Duration::from_millis(args.shutdown_delay_ms);
    let readiness = Readiness::default();
    let asked_at = OnceCell::new();
    let asked_to_stop = async {
        let name = signals.received().await;
        let _ = asked_at.set(Instant::now());
        tracing::info!(signal = name, "stopping");
        readiness.end();
        sleep(delay).await;
    };
    let drain = shutdown::drain_timeout(delay);
    let background = Background::start(store.clone(), args.schedule.schedule());
    let thresholds = args.thresholds.thresholds();
    let keeper = ReportKeeper::start(store.clone(), args.report_schedule, thresholds);
    let webhook_networks = args.webhooks.webhook_allow.clone();
    let deliverer = Deliverer::start(store.clone(), Courier::new(webhook_networks.clone()), args.webhooks.webhook_rate);
    let connections = Connections::new(args.connections_max);
    let settings = AppSettings {
        readiness: readiness.clone(),
        connections: connections.clone(),
        metrics: args.metrics,
        thresholds,
        rate_limits: RateLimitSettings {
            key: NonZeroU32::new(args.key_rate_limit),
            organization: NonZeroU32::new(args.organization_rate_limit),
        },
        traced: args.log.otlp_endpoint.is_some(),
        webhook_networks,
        tokens,
        ..AppSettings::default()
    };
    let endpoint = app::endpoint(store.clone(), settings);
    let ended = server::serve(listener, endpoint, connections, asked_to_stop, drain).await;

    let asked_at = asked_at.into_inner().unwrap_or_else(Instant::now);
    if ended == Ended::CutOff {
        tracing::warn!("requests that had not ended in time were cut off");
    }
    let closing = async {
        tokio::join!(background.stop(), keeper.stop(), deliverer.stop());
        store.close().await;
    };
    let closed = timeout_at(asked_at + shutdown::TOTAL, closing).await;
    if closed.is_err() {
        bail!("the database did not take in time what was left to write: nothing of it had been acknowledged");
    }
    tracing::info!("stopped");
    Ok(Outcome::Success)
}
