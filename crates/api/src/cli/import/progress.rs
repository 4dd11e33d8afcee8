//! The progress bar, on standard error, and whatever else is to be said there without tearing it apart.

use indicatif::{ProgressBar, ProgressStyle};

use super::tally::Tally;
use crate::cli::output;

/// How far an import is. Shown only where standard error is a terminal.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for a source of that size, or a counter where nobody knows it.
    pub fn start(size: Option<u64>) -> Self {
        let bar = match size {
            Some(size) => {
                ProgressBar::new(size).with_style(style("[{elapsed}] {wide_bar} {percent:>3} %  {msg}  eta {eta}"))
            }
            None => ProgressBar::no_length().with_style(style("[{elapsed}] {bytes}  {msg}")),
        };
        Self { bar }
    }

    /// So many more bytes have been dealt with, and these are the counts now.
    pub fn advance(&self, bytes: u64, tally: &Tally) {
        self.bar.set_message(tally.line());
        self.bar.inc(bytes);
    }

    /// Says something above the bar, bar or no bar.
    pub fn say(&self, text: &str) {
        self.bar.suspend(|| output::complain(text));
    }
}

impl Drop for Progress {
    /// However the import ends, the bar does not stay.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse costs the bar its looks, not the import its work; a test holds that both parse.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
