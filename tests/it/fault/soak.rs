//! Half of the load that a server can take, for as long as one has: memory stays what it was.

use std::time::{Duration, Instant};

use super::overload::{MemoryWatch, Pressed};
use super::pressure::count;
use super::{report, seed, setting, today};

/// In how many stretches memory is looked at.
const STRETCHES: u32 = 60;

/// Which of them are warm-up.
const WARM_UP: usize = 15;

/// How much more memory there is after an hour, in percent of what there was, by the straight line through the samples:
/// seconds and bytes.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let number = count(samples.len() as u64);
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / number;
    let (time, bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let covariance: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - bytes)).sum();
    let variance: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
    covariance / variance * 3_600.0 / bytes * 100.0
}

#[test]
fn a_slope_is_in_percent_an_hour() {
    let samples = [(0.0, 99.0), (1_800.0, 100.0), (3_600.0, 101.0)];
    assert!((slope(&samples) - 2.0).abs() < 1e-9);
    assert!(slope(&[(0.0, 7.0), (9.0, 7.0)]).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_half_load_memory_stays_what_it_was() {
    let seconds = setting("SECONDS", 6_u64);
    let begun = Instant::now();
    let mut pressed = Pressed::start(Duration::ZERO).await;
    let peak = pressed.peak(Duration::from_secs(setting("PEAK_SECONDS", 1))).await.open;
    let stretch = Duration::from_secs(seconds) / STRETCHES;
    let loaded = Instant::now();
    let (mut samples, mut done, mut refused, mut slowest) = (Vec::new(), 0, 0, Duration::ZERO);
    for _ in 0..STRETCHES {
        // The mean: from one instant to the next memory goes up and down by a tenth with what is in hand.
        let watch = MemoryWatch::of(pressed.process());
        let tally = pressed.at(peak / 2.0, stretch).await;
        let sample = (loaded.elapsed().as_secs_f64(), count(watch.end().1));
        // For whoever ends it early.
        println!("after {:.0} s: {} KiB", sample.0, sample.1 / 1_024.0);
        samples.push(sample);
        done += tally.done.total();
        refused += tally.refused.total();
        slowest = slowest.max(tally.done.percentile(990));
    }
    let slope = slope(&samples[WARM_UP..]);
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let (first, last) = (mib(samples[WARM_UP].1), mib(samples[samples.len() - 1].1));
    let violations = pressed.differences().await;
    report(&format!(
        "| {} | soak, seed {} | {} s | half of {peak:.0}/s for {seconds} s: {done} done, {refused} refused, the slowest \
         stretch's p99 {} ms; memory {first:.1} MiB after the warm-up, {last:.1} MiB at the end, {slope:+.1} % an hour | {} |",
        today(),
        seed(),
        begun.elapsed().as_secs(),
        slowest.as_millis(),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(done > 0);
    // In a few seconds a slope says nothing; that memory does not run away, it does.
    assert!(last < 2.0 * first, "{first} to {last} MiB");
}
