//! Logging, to standard error.

use std::io::{self, IsTerminal};

use anyhow::Context;
use tracing_subscriber::EnvFilter;

use crate::config::{LogArgs, LogFormat};

/// Starts logging for the life of the process.
pub fn start(args: &LogArgs) -> anyhow::Result<()> {
    let filter = parse_filter(&args.filter)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match args.format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    // The error is a box without the bounds that would let it be wrapped.
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
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
