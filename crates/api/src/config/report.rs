//! Settings of the performance report.

use clap::{Args, ValueEnum};
use multicredit_domain::Timestamp;
use multicredit_store::performance::Thresholds;

use super::{DatabaseArgs, LogArgs, ReportFormat};

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// How the report is printed on standard output
    #[arg(long, env = "MULTICREDIT_FORMAT", value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// Compare with the newest saved report, or with the newest that is not newer than a day or an instant
    #[arg(long, env = "MULTICREDIT_REPORT_SINCE", value_name = "last|TIME", value_parser = parse_since)]
    pub since: Option<Since>,
    /// Keep this report, to compare later ones with it
    #[arg(long, env = "MULTICREDIT_REPORT_SAVE", value_parser = clap::builder::BoolishValueParser::new())]
    pub save: bool,
    /// What is worth a word.
    #[command(flatten)]
    pub thresholds: ThresholdArgs,
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// How often a server saves a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportSchedule {
    /// Once a month
    Monthly,
    /// Once a week
    Weekly,
    /// Once a day
    Daily,
    /// Never
    Off,
}

/// Which saved report to compare with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The newest.
    Last,
    /// The newest that is not newer than that.
    Time(Timestamp),
}

/// Reads `last`, `2026-10-12` (to its end) or an instant of RFC 3339.
fn parse_since(text: &str) -> Result<Since, String> {
    if text == "last" {
        return Ok(Since::Last);
    }
    let at = text.parse().or_else(|_| format!("{text}T23:59:59.999999Z").parse());
    at.map(Since::Time).map_err(|_| "must be last, a day (2026-10-12) or an instant (2026-10-12T20:08:00Z)".to_owned())
}

/// From where on a figure is worth a word. Every default is that of the report that this grew from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Thresholds of the performance report")]
pub struct ThresholdArgs {
    /// 95 of 100 consumptions should take no longer
    #[arg(long, env = "MULTICREDIT_CONSUMPTION_TARGET_MS", default_value_t = 50.0, value_name = "MS", value_parser = above_zero)]
    pub consumption_target_ms: f64,
    /// No critical query should take longer to plan
    #[arg(long, env = "MULTICREDIT_PLANNING_TARGET_MS", default_value_t = 1.0, value_name = "MS", value_parser = above_zero)]
    pub planning_target_ms: f64,
    /// A query that takes longer is a warning
    #[arg(long, env = "MULTICREDIT_QUERY_WARNING_MS", default_value_t = 100.0, value_name = "MS", value_parser = above_zero)]
    pub query_warning_ms: f64,
    /// A query that takes longer is critical
    #[arg(long, env = "MULTICREDIT_QUERY_CRITICAL_MS", default_value_t = 500.0, value_name = "MS", value_parser = above_zero)]
    pub query_critical_ms: f64,
    /// More dead rows of a table are a warning
    #[arg(long, env = "MULTICREDIT_DEAD_ROWS_MAX", default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub dead_rows_max: i64,
    /// A lower share of reads by an index is critical
    #[arg(long, env = "MULTICREDIT_INDEX_RATIO_MIN", default_value_t = 0.9, value_name = "RATIO", value_parser = ratio)]
    pub index_ratio_min: f64,
    /// A lower share of reads by an index misses the target
    #[arg(long, env = "MULTICREDIT_INDEX_RATIO_TARGET", default_value_t = 0.95, value_name = "RATIO", value_parser = ratio)]
    pub index_ratio_target: f64,
    /// Tables with fewer rows may be read whole
    #[arg(long, env = "MULTICREDIT_INDEX_RATIO_ROWS_MIN", default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    pub index_ratio_rows_min: i64,
    /// A lower share of look-ups that a cache answers is a warning
    #[arg(long, env = "MULTICREDIT_CACHE_RATIO_MIN", default_value_t = 0.8, value_name = "RATIO", value_parser = ratio)]
    pub cache_ratio_min: f64,
}

impl ThresholdArgs {
    /// The same, as the judgement takes them.
    pub const fn thresholds(&self) -> Thresholds {
        Thresholds {
            consumption_target_ms: self.consumption_target_ms,
            planning_target_ms: self.planning_target_ms,
            query_warning_ms: self.query_warning_ms,
            query_critical_ms: self.query_critical_ms,
            dead_rows_max: self.dead_rows_max,
            index_ratio_min: self.index_ratio_min,
            index_ratio_target: self.index_ratio_target,
            index_ratio_rows_min: self.index_ratio_rows_min,
            cache_ratio_min: self.cache_ratio_min,
        }
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    value.ok_or_else(|| "must be a number above 0".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        thresholds: ThresholdArgs,
    }

    #[test]
    fn the_defaults_are_those_of_the_judgement() {
        let command = Command::try_parse_from(["x"]).unwrap();
        assert_eq!(command.thresholds.thresholds(), Thresholds::default());
    }

    #[test]
    fn every_threshold_can_be_set_and_nonsense_is_refused() {
        let flags = ["x", "--query-warning-ms", "7.5", "--cache-ratio-min", "1"];
        let thresholds = Command::try_parse_from(flags).unwrap().thresholds.thresholds();
        assert_eq!(thresholds, Thresholds { query_warning_ms: 7.5, cache_ratio_min: 1.0, ..Thresholds::default() });
        for bad in [["x", "--cache-ratio-min", "1.1"], ["x", "--query-warning-ms", "0"], ["x", "--dead-rows-max", "-1"]]
        {
            assert!(Command::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_day_means_its_end() {
        assert_eq!(parse_since("last"), Ok(Since::Last));
        let day = parse_since("2026-10-12").unwrap();
        assert_eq!(day, Since::Time("2026-10-12T23:59:59.999999Z".parse().unwrap()));
        assert_eq!(parse_since("2026-10-12T20:08:00Z"), Ok(Since::Time("2026-10-12T20:08:00Z".parse().unwrap())));
        assert!(parse_since("yesterday").is_err());
    }
}
