//! Twice the load that a server can take: it does nearly as much as before, refuses the rest at once, needs little more
//! memory, and is as quick as before soon after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tests::Engine;
use tokio::time::sleep;

use super::place::Place;
use super::pressure::{Pressure, Tally};
use super::{report, seed, setting, today};

/// How many clients find out what a server does for those who wait for its answers: the best of them.
const CLIENTS: [usize; 3] = [64, 256, 600];

/// Which parts of that are asked for at a rate, to find out what it does for those who do not: the best of them.
const RATES: [f64; 4] = [0.7, 0.8, 0.9, 1.0];

/// How many organizations are spent on.
const ORGANIZATIONS: usize = 256;

/// More than a run spends.
const CREDITS: u64 = 1_000_000_000_000;

/// What a second's 99th percentile may be to count as what it was before.
const AS_BEFORE: Duration = Duration::from_millis(10);

/// A server under pressure, and what it has acknowledged.
pub struct Pressed {
    pub place: Place,
    organizations: Vec<String>,
    acknowledged: u64,
    /// What may be there or not.
    unanswered: u64,
    phase: usize,
}

impl Pressed {
    /// One server, and a database so far away.
    pub async fn start(distance: Duration) -> Self {
        let place = Place::start(Engine::Postgres, 1, !distance.is_zero()).await;
        let mut organizations = Vec::new();
        for number in 0..ORGANIZATIONS {
            organizations.push(place.organization(&format!("organization {number}"), CREDITS).await);
        }
        if !distance.is_zero() {
            place.move_apart(distance);
        }
        Self { place, organizations, acknowledged: 0, unanswered: 0, phase: 0 }
    }

    fn pressure(&mut self, during: Duration) -> Pressure {
        self.phase += 1;
        Pressure {
            address: self.place.servers[0].client.address(),
            organizations: self.organizations.clone(),
            name: format!("phase-{}", self.phase),
            during,
        }
    }

    fn note(&mut self, tally: Tally) -> Tally {
        self.acknowledged += tally.done.total();
        self.unanswered += tally.unanswered;
        assert_eq!(tally.other, 0, "{:?}", tally.first_other);
        tally
    }

    /// What it does at most, in consumptions a second.
    pub async fn peak(&mut self, during: Duration) -> Peak {
        let mut peak = Peak { closed: 0.0, open: 0.0 };
        for clients in CLIENTS {
            let tally = self.pressure(during).closed(clients).await;
            peak.closed = peak.closed.max(self.note(tally).goodput(during));
        }
        for part in RATES {
            let tally = self.at(peak.closed * part, during).await;
            peak.open = peak.open.max(tally.goodput(during));
        }
        peak
    }

    /// So many a second.
    pub async fn at(&mut self, rate: f64, during: Duration) -> Tally {
        let tally = self.pressure(during).open(rate).await;
        self.note(tally)
    }

    /// The server's process.
    pub fn process(&self) -> u32 {
        self.place.servers[0].id()
    }

    /// What the ledger says otherwise than the answers did.
    pub async fn differences(&self) -> Vec<String> {
        let there = self.place.consumptions().await;
        let possible = self.acknowledged..=self.acknowledged + self.unanswered;
        let differs = u64::try_from(there).map_or(true, |there| !possible.contains(&there));
        let differs = differs.then(|| format!("{there} are in the ledger, {possible:?} were answered"));
        differs.into_iter().chain(self.place.verify().await).collect()
    }
}

/// What a server does at most, in consumptions a second.
#[derive(Clone, Copy)]
pub struct Peak {
    /// For clients who ask again when they are answered, and so never more than it can do.
    pub closed: f64,
    /// For clients who ask at a rate: the load that it can take. Theirs is the same work as under an overload, part of
    /// which is asking, on the same processors.
    pub open: f64,
}

/// The resident memory of a process, in bytes.
fn memory_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1_024
}

/// What memory a process has from now on, until it is asked.
#[derive(Default)]
pub struct MemoryWatch(Arc<Watched>);

#[derive(Default)]
struct Watched {
    most: AtomicU64,
    sum: AtomicU64,
    looks: AtomicU64,
    is_over: AtomicBool,
}

impl MemoryWatch {
    pub fn of(process: u32) -> Self {
        let watch = Self::default();
        let watched = Arc::clone(&watch.0);
        tokio::spawn(async move {
            while !watched.is_over.load(Ordering::Relaxed) {
                let memory = memory_of(process);
                watched.most.fetch_max(memory, Ordering::Relaxed);
                watched.sum.fetch_add(memory, Ordering::Relaxed);
                watched.looks.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_millis(100)).await;
            }
        });
        watch
    }

    /// The most and the mean, in bytes.
    pub fn end(&self) -> (u64, u64) {
        self.0.is_over.store(true, Ordering::Relaxed);
        let looks = self.0.looks.load(Ordering::Relaxed).max(1);
        (self.0.most.load(Ordering::Relaxed), self.0.sum.load(Ordering::Relaxed) / looks)
    }
}

/// From which second on every 99th percentile is what it was.
fn back_after(tally: &Tally, before: Duration) -> usize {
    let is_slow =
        |second: &multicredit::bench::histogram::Histogram| second.percentile(990) > 2 * before.max(AS_BEFORE);
    tally.by_second.iter().rposition(is_slow).map_or(0, |last| last + 1)
}

fn ms(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1e3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twice_of_what_it_can_take_is_refused_at_once_and_hurts_nobody_for_long() {
    let overloaded = Duration::from_secs(setting("SECONDS", 3));
    let measured = Duration::from_secs(setting("PEAK_SECONDS", 1));
    let begun = Instant::now();
    let distance = Duration::from_millis(setting("DISTANCE_MS", 0));
    let mut pressed = Pressed::start(distance).await;
    let Peak { closed, open: peak } = pressed.peak(measured).await;
    let times = setting("TIMES", 2.0);
    let calm = MemoryWatch::of(pressed.process());
    let before = pressed.at(peak / 2.0, measured).await;
    let memory_before = calm.end().1;
    let watch = MemoryWatch::of(pressed.process());
    let over = pressed.at(peak * times, overloaded).await;
    let more_memory = watch.end().0.saturating_sub(memory_before) >> 20;
    let after = pressed.at(peak / 2.0, measured.max(Duration::from_secs(3))).await;
    let goodput = over.goodput(overloaded);
    let p99_before = before.done.percentile(990);
    let back = back_after(&after, p99_before);
    let violations = pressed.differences().await;
    report(&format!(
        "| {} | overload, {} ms from the database, seed {} | {} s | peak {peak:.0}/s ({closed:.0}/s in a closed loop); {times} times that for {} s: \
         {goodput:.0}/s done ({:.0} % of the peak, {:.0} % of the closed one), p99 {}; {} of {} refused, p50 {}, p99 {}, p99.9 {}; {} not answered, {} not sent for want of connections; {} connections, \
         {more_memory} MiB more memory than {}; at half the peak p99 {} before, {} after, back after {back} s | {} |",
        today(),
        distance.as_millis(),
        seed(),
        begun.elapsed().as_secs(),
        overloaded.as_secs(),
        100.0 * goodput / peak,
        100.0 * goodput / closed,
        ms(over.done.percentile(990)),
        over.refused.total(),
        over.sent,
        ms(over.refused.percentile(500)),
        ms(over.refused.percentile(990)),
        ms(over.refused.percentile(999)),
        over.unanswered,
        over.unsent,
        over.connections,
        memory_before >> 20,
        ms(p99_before),
        ms(after.done.percentile(990)),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    // What can be asked of a program that was not optimized, on a machine with other work: that it does not collapse.
    assert!(over.done.total() > 0 && goodput > peak / 50.0, "{goodput} of {peak}");
    assert!(more_memory < 1_024, "{more_memory} MiB");
}
