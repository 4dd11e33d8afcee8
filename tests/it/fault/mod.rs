//! The fault run: whatever is killed, cut or filled with lies, what was acknowledged is there once, what was refused is
//! not, and what is unknown is there at most once.
//!
//! `docs/TESTING.md` says how to run it for longer, by the variables that [`setting`] reads.

mod full_disk;
mod kill_points;
mod load;
mod overload;
mod overspend;
mod place;
pub mod plant;
mod pressure;
mod small_disk;
mod soak;
mod stage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tests::fault::{Asked, Fault, Outcome, Random};
use tests::proxy::Cut;

use load::Load;
use stage::Stage;

/// How long after a restart of a server its first success may take.
const API_BACK: Duration = Duration::from_secs(5);

/// A variable of a run, or what it is in the suite of every day.
fn setting<T: std::str::FromStr>(name: &str, default: T) -> T {
    let value = std::env::var(format!("MULTICREDIT_FAULT_{name}"));
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("MULTICREDIT_FAULT_{name} is {value}")))
}

/// The faults of a run: those that are named, else all, as often as it is said, in an order of the seed. Redis can be
/// killed only once.
fn schedule(random: &mut Random) -> Vec<Fault> {
    let names: String = setting("FAULTS", String::new());
    let named: Vec<Fault> =
        names.split(',').filter(|name| !name.is_empty()).map(|name| name.parse().unwrap()).collect();
    let of_a_round = if named.is_empty() { Fault::ALL.to_vec() } else { named };
    let mut faults = Vec::new();
    for _ in 0..setting("ROUNDS", 1) {
        let mut round = of_a_round.clone();
        random.shuffle(&mut round);
        faults.extend(round);
    }
    let kills_redis = faults.contains(&Fault::KillRedis);
    faults.retain(|fault| *fault != Fault::KillRedis);
    faults.extend(kills_redis.then_some(Fault::KillRedis));
    faults
}

/// Adds a line to the results of the long runs, where they are wanted.
fn report(line: &str) {
    println!("{line}");
    let path: String = setting("RESULTS", String::new());
    if !path.is_empty() {
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).unwrap();
    }
}

fn today() -> String {
    multicredit_store::clock::now().format("%Y-%m-%d").to_string()
}

/// The suite's own seed is always the same: what it finds can be had again.
fn seed() -> u64 {
    setting("SEED", 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_nothing_is_lost_and_nothing_is_charged_twice() {
    let mut random = Random::new(seed());
    let mut stage = Stage::start(2).await;
    let load = Arc::clone(&stage.load);
    let rate = setting("RATE", 40_u64);
    let begun = Instant::now();
    let sending =
        tokio::spawn(Arc::clone(&load).send_until_the_end(random.number(), Duration::from_micros(1_000_000 / rate)));
    let faults = schedule(&mut random);
    let mut slowest_api = Duration::ZERO;
    let mut slowest_postgres = Duration::ZERO;
    for fault in &faults {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let back = stage.suffer(*fault, &mut random).await;
        match fault {
            Fault::KillApi | Fault::TerminateApi => slowest_api = slowest_api.max(back),
            Fault::KillPostgres => slowest_postgres = slowest_postgres.max(back),
            _ => {}
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.end();
    sending.await.unwrap();
    let [asked, done, refused, unknown] = load.journal().counts();
    let violations = stage.settle().await;
    let kinds = Fault::ALL.iter().map(|kind| (kind.name(), faults.iter().filter(|fault| *fault == kind).count()));
    let kinds: Vec<String> = kinds.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect();
    report(&format!(
        "| {} | mix, seed {} | {} s | {asked} asked, {done} done, {refused} refused, {unknown} unknown; \
         {}; {} cuts; first success {slowest_api:.1?} after a restart of the API, {slowest_postgres:.1?} after \
         PostgreSQL was ready | {} |",
        today(),
        seed(),
        begun.elapsed().as_secs(),
        kinds.join(", "),
        stage.proxy.cuts_made(),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(done > 0 && slowest_api < API_BACK * 4, "{done}, {slowest_api:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_cut_off_is_found_in_time_or_healed_by_its_key() {
    let mut stage = Stage::start(1).await;
    let load = Arc::clone(&stage.load);
    let cuts = setting("CUTS", 20_usize);
    let mut random = Random::new(seed());
    let begun = Instant::now();
    let (mut resolved, mut slowest) = (0, Duration::ZERO);
    for number in 0..cuts {
        stage.proxy.cut(Cut::AfterCommit);
        let asked_at = Instant::now();
        let outcomes = load.one(&mut random, number).await;
        slowest = slowest.max(asked_at.elapsed());
        let is_done = outcomes.iter().all(|outcome| outcome.body().is_some());
        resolved += usize::from(is_done && asked_at.elapsed() <= Duration::from_secs(3));
    }
    let made = stage.proxy.cuts_made();
    let violations = stage.settle().await;
    report(&format!(
        "| {} | in doubt, seed {} | {} s | {made} cuts after the commit, {resolved} of {cuts} requests resolved within \
         3 s, the slowest in {slowest:.1?} | {} |",
        today(),
        seed(),
        begun.elapsed().as_secs(),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!(made, cuts);
    assert!(resolved * 1_000 >= cuts * 999 || cuts - resolved <= 1, "{resolved} of {cuts}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_sent_many_times_at_once_over_two_processes_charges_once() {
    let mut stage = Stage::start(2).await;
    let load = Arc::clone(&stage.load);
    let keys = setting("KEYS", 200_usize);
    let mut random = Random::new(seed());
    let begun = Instant::now();
    let mut mismatches = 0;
    for chunk in 0..keys.div_ceil(50) {
        let plans: Vec<(usize, usize)> =
            (chunk * 50..keys.min(chunk * 50 + 50)).map(|number| (number, 1 + random.below(5))).collect();
        let sent = join_all(plans.iter().map(|(number, times)| send_at_once(&load, *number, *times))).await;
        mismatches += sent.into_iter().sum::<usize>();
    }
    let [asked, done, ..] = load.journal().counts();
    let violations = stage.settle().await;
    report(&format!(
        "| {} | idempotency, seed {} | {} s | {keys} keys in {asked} requests over two processes, {done} done, \
         {mismatches} changed bodies refused with 422 | {} |",
        today(),
        seed(),
        begun.elapsed().as_secs(),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!(mismatches, keys.div_ceil(10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_refuses_and_loses_nothing() {
    let mut stage = match Stage::start_on_a_small_disk(2).await {
        Ok(stage) => stage,
        Err(why) => {
            eprintln!("SKIPPED: a full disk needs a file system of its own, and {why}");
            return;
        }
    };
    let load = Arc::clone(&stage.load);
    let mut random = Random::new(seed());
    let begun = Instant::now();
    let pace = Duration::from_micros(1_000_000 / setting("RATE", 40_u64));
    let sending = tokio::spawn(Arc::clone(&load).send_until_the_end(random.number(), pace));
    let fills = setting("FILLS", 1_usize);
    let mut slowest = Duration::ZERO;
    for _ in 0..fills {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let pause = Duration::from_secs(2 + random.number() % 4);
        slowest = slowest.max(stage.fill_disk(pause).await);
    }
    load.end();
    sending.await.unwrap();
    let [asked, done, refused, unknown] = load.journal().counts();
    let violations = stage.settle().await;
    report(&format!(
        "| {} | full disk, seed {} | {} s | {asked} asked, {done} done, {refused} refused, {unknown} unknown; filled \
         {fills} times; first success {slowest:.1?} after there was room | {} |",
        today(),
        seed(),
        begun.elapsed().as_secs(),
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(done > 0);
}

/// Sends a key so often at once; with every tenth, another body afterwards, which must be refused. Answers how many were.
async fn send_at_once(load: &Load, number: usize, times: usize) -> usize {
    let asked = |quantity: usize| {
        let path = format!("/v1/organizations/{}/consume", load.rich(number));
        Asked::of(path, format!("key-{number}"), json!({ "action": "ai_chat", "quantity": quantity }))
    };
    join_all((0..times).map(|time| load.send(time % 2, vec![asked(1)], false))).await;
    if !number.is_multiple_of(10) {
        return 0;
    }
    let changed = load.send(0, vec![asked(2)], false).await;
    assert_eq!(changed, [Outcome::Refused { code: "idempotency_mismatch".to_owned() }], "key-{number}");
    1
}
