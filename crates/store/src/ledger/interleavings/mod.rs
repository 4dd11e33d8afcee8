//! Who goes on next, who is cancelled, when a connection is lost and what the database kept of it: decided step by step,
//! for thousands of schedules from seeds, and for small cases in every order there is.
//!
//! What runs is the product's code: the queue, its counts, the writers with everything that they do about failures, and
//! the decision. What is fake is the database behind a [`Session`](super::session::Session), which does nothing until it
//! is told ([`database`]), and time, which stands still until nothing else can happen.
//!
//! A scheduler that takes the place of threads and locks (shuttle) was not taken. The queue is made of tokio's channels,
//! and writers of its timers: it would have to see stand-ins for both, everywhere, and what it explores besides, the
//! order of memory accesses between threads, is not where these races are. They are between awaits: writers share
//! nothing but a channel and a mutex of counts that is never held across one. So one thread with an explicit schedule
//! sees every order that matters, and repeats it.
//!
//! What must hold is in [`verdict`]; `docs/TESTING.md` says which bugs were seen red.

mod choices;
mod database;
mod stage;
mod verdict;

use choices::{Choices, Random};
use stage::{Ask, Plan, What, decided_by_express, run};

/// How many schedules from seeds are run, unless `MULTICREDIT_INTERLEAVINGS` says otherwise.
const SCHEDULES: u64 = 4_000;

/// How many schedules from seeds are wanted, if it is said.
fn wanted() -> Option<u64> {
    std::env::var("MULTICREDIT_INTERLEAVINGS").ok().map(|text| text.parse().unwrap())
}

fn what(name: &str, organization: usize, quantity: i64, key: Option<&'static str>) -> What {
    What { name: name.to_owned(), organization, quantity, key }
}

/// Runs every schedule of a plan.
fn run_all(plan: &Plan) {
    let mut count = 0;
    let mut choices = Some(Choices::first());
    while let Some(mut now) = choices.take() {
        run(plan, &mut now, &format!("schedule {count}"));
        count += 1;
        choices = now.next();
    }
    assert!(count > 30, "{count}");
    println!("express {}, pooled {}: {count} schedules", plan.is_express, plan.is_pooled);
}

/// The ways to a database: by the portable path alone, with the express path, and that through a pooler.
const WAYS: [(bool, bool); 3] = [(false, false), (true, false), (true, true)];

#[test]
fn two_calls_a_cancellation_and_the_end_in_every_order() {
    for (is_express, is_pooled) in WAYS {
        let asks = vec![Ask::Spend(what("one", 0, 1, None)), Ask::Spend(what("two", 0, 1, Some("key")))];
        let plan = Plan { cancels: 1, closes: true, is_express, is_pooled, ..Plan::of(asks) };
        run_all(&plan);
    }
}

/// Each is a full batch, and waits while the one before is decided: it is sent before that one is answered.
#[test]
fn two_full_batches_a_fault_and_the_end_in_every_order() {
    for &(is_express, is_pooled) in &WAYS[..2] {
        let asks = vec![Ask::Spend(what("one", 0, 1, None)), Ask::Spend(what("two", 0, 1, Some("key")))];
        let plan = Plan { batch_max: 1, faults: 1, closes: true, is_express, is_pooled, ..Plan::of(asks) };
        run_all(&plan);
    }
}

#[test]
fn one_call_and_any_two_faults_in_every_order() {
    for (is_express, is_pooled) in WAYS {
        for ask in [Ask::Spend(what("one", 0, 1, None)), Ask::Grant(what("one", 0, 7, None))] {
            // Behind a pooler, where a lost session ends when it will, two faults have too many orders.
            let faults = if is_pooled { 1 } else { 2 };
            let plan = Plan { faults, is_express, is_pooled, ..Plan::of(vec![ask]) };
            run_all(&plan);
        }
    }
}

/// Without a key of their own nothing but the ledger keeps them from happening twice.
#[test]
fn two_writers_and_a_fault_in_every_order() {
    // By the portable path they are twenty thousand: in long runs.
    let is_long = wanted().is_some_and(|count| count > SCHEDULES);
    let ways = if is_long { &WAYS[..2] } else { &WAYS[1..2] };
    for &(is_express, is_pooled) in ways {
        let asks = vec![Ask::Spend(what("one", 0, 1, None)), Ask::Spend(what("two", 0, 1, None))];
        let plan = Plan { faults: 1, writers: 2, is_express, is_pooled, ..Plan::of(asks) };
        run_all(&plan);
    }
}

#[test]
fn a_queue_of_one_call_refuses_the_next_and_nothing_of_it_stays_behind() {
    let asks = (0..3).map(|number| Ask::Spend(what(&format!("call-{number}"), 0, 1, None))).collect();
    let plan = Plan { calls_max: 1, cancels: 1, closes: true, ..Plan::of(asks) };
    let mut busy = 0;
    let mut choices = Some(Choices::first());
    while let Some(mut now) = choices.take() {
        busy += run(&plan, &mut now, "a queue of one").busy;
        choices = now.next();
    }
    assert!(busy > 100, "{busy}");
}

/// What a seed asks for, of whom, by which way, and with how much trouble.
fn plan(random: &mut Random) -> Plan {
    let keys = [None, None, Some("a"), Some("b")];
    let mut ask = |number: usize| {
        let key = keys[random.below(4)];
        // What comes under one key is one request; one in eight is another one, and refused.
        let name =
            key.filter(|_| random.below(8) > 0).map_or_else(|| format!("ask-{number}"), |key| format!("key-{key}"));
        let organization = if key.is_some() { 0 } else { random.below(2) };
        // Most can be afforded; a few ask for more than there is.
        let quantity = if key.is_none() && random.below(6) == 0 { 90 } else { 1 };
        What { name, organization, quantity, key }
    };
    let mut asks = Vec::new();
    for number in 0..7 {
        let kind = number % 4;
        asks.push(match kind {
            1 => Ask::Batch((0..3).map(|item| ask(10 * number + item)).collect()),
            2 => Ask::Grant(What { key: None, name: format!("grant-{number}"), ..ask(number) }),
            _ => Ask::Spend(ask(number)),
        });
    }
    let (is_express, is_pooled) = WAYS[random.below(3)];
    Plan {
        writers: 1 + random.below(2),
        calls_max: [2, 100][random.below(2)],
        // Where a batch is full with the first job, the next one is sent before the answers to the last are given.
        batch_max: [1, 2, 256][random.below(3)],
        cancels: random.below(3),
        faults: random.below(5),
        closes: random.below(2) == 0,
        is_express,
        is_pooled,
        ..Plan::of(asks)
    }
}

#[test]
fn whatever_a_seed_decides_everything_is_answered_once_and_happens_once() {
    let mut sum = verdict::Sum::default();
    for seed in 0..wanted().unwrap_or(SCHEDULES) {
        let mut random = Random::new(seed);
        let plan = plan(&mut random);
        sum.add(&run(&plan, &mut Choices::of_seed(seed), &format!("seed {seed}")));
    }
    // A run in which nothing goes wrong says nothing.
    let parts =
        [sum.done, sum.replayed, sum.refused, sum.busy, sum.unavailable, sum.unknown, sum.cancelled, sum.doubts];
    assert!(parts.iter().all(|count| *count > 0), "{sum:?}");
    // Nor does one in which everything is left to the portable path.
    assert!(decided_by_express() > 0);
    println!("{sum:?}");
}

/// With the real limits: 1,024 calls of an organization, 1,280 in all.
#[test]
fn a_queue_that_is_full_refuses_what_is_beyond_it_and_is_empty_in_the_end() {
    for seed in 0..20 {
        let burst = |name: &str, organization: usize, count: usize| {
            Ask::Burst(What { name: name.to_owned(), organization, quantity: 1, key: None }, count)
        };
        let asks = vec![burst("loud", 0, 1_100), burst("quiet", 1, 400), Ask::Spend(what("last", 1, 1, None))];
        let calls_max = super::limits::CALLS_MAX;
        let is_express = seed % 2 == 0;
        let plan = Plan { calls_max, cancels: 5, faults: 2, closes: true, is_express, ..Plan::of(asks) };
        let sum = run(&plan, &mut Choices::of_seed(seed), &format!("seed {seed} of a full queue"));
        assert!(sum.busy + sum.unavailable > 0, "{sum:?}");
    }
}

#[test]
fn a_schedule_is_the_same_when_it_is_run_again() {
    for seed in 0..50 {
        let plan = plan(&mut Random::new(seed));
        let once = run(&plan, &mut Choices::of_seed(seed), "once");
        let again = run(&plan, &mut Choices::of_seed(seed), "again");
        assert_eq!(once, again, "seed {seed}");
    }
}
