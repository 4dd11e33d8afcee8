//! Logging, to standard error, and spans to a collector where one is named.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt, registry};

use crate::config::{LogArgs, LogFormat};
use crate::otlp::Exporter;

/// Starts logging for the life of the process. What sends spans, if anything does, is to be finished at its end.
pub fn start(args: &LogArgs, runtime: &Handle) -> anyhow::Result<Option<Exporter>> {
    let filter = parse_filter(&args.filter)?;
    let exporter = args.otlp_endpoint.as_deref().map(|endpoint| Exporter::start(endpoint, runtime)).transpose()?;
    let log = fmt::layer().with_writer(io::stderr);
    let log = match args.format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    // A filter for each layer costs more than one for all.
    let started = match &exporter {
        None => registry().with(log).with(filter).try_init(),
        Some(exporter) => registry().with(log.with_filter(filter)).with(exporter.layer()).try_init(),
    };
    started.context("cannot start logging")?;
    Ok(exporter)
}

fn parse_filter(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::builder().parse(filter).with_context(|| format!("--log (MULTICREDIT_LOG) is no filter: {filter}"))
}

#[cfg(test)]
mod tests {
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::config::DEFAULT_LOG;

    #[test]
    fn the_default_filter_lets_no_more_than_info_pass() {
        assert_eq!(parse_filter(DEFAULT_LOG).unwrap().max_level_hint(), Some(LevelFilter::INFO));
    }

    #[test]
    fn what_is_no_filter_is_refused_with_the_name_of_the_setting() {
        let error = parse_filter("multicredit=loud").unwrap_err();
        assert!(error.to_string().contains("MULTICREDIT_LOG"), "{error}");
    }
}
