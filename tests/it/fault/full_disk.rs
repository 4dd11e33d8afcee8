//! A disk that is full under SQLite: what does not fit is refused, what was acknowledged is there, and it goes on when there
//! is room again. (Under PostgreSQL it is a fault of [`Stage`](super::stage::Stage), with everything that goes wrong there.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::ready;
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tests::fault::{Asked, Outcome, exchange};
use tokio::time::sleep;

use super::place::{ADMIN_KEY, Place};
use super::{report, seed, setting, today};

const CLIENTS: usize = 4;
const REST: Duration = Duration::from_millis(5);

/// For how long there is no room: longer than a batch is tried again, so that some are told so. (SQLite may run out of room
/// behind a commit that is in its log: what they are told is that the outcome is unknown.)
const FULL_FOR: Duration = Duration::from_secs(6);

/// How long the first success may take once there is room.
const BACK: Duration = Duration::from_secs(5);

/// Under how many keys something is asked for once more at the same time.
const TOGETHER: usize = 64;

type Sent = (Asked, Result<Outcome, String>);

async fn send(place: &Place, asked: Asked) -> Sent {
    let address = place.servers[0].client.address();
    let outcome = exchange(address, ADMIN_KEY, std::slice::from_ref(&asked), false).await;
    (asked, outcome.map(|mut outcomes| outcomes.remove(0)))
}

fn one(path: &str, key: String) -> Asked {
    Asked::of(path.to_owned(), key, json!({ "action": "ai_chat", "quantity": 1 }))
}

/// What is wrong with what is answered to the same once more, when there is room.
async fn settle(place: &Place, (asked, before): Sent) -> Option<String> {
    let before = match before {
        Ok(outcome) => outcome,
        Err(unclassified) => return Some(format!("{asked:?}: {unclassified}")),
    };
    let (asked, again) = send(place, asked).await;
    let is_right = match (&before, &again) {
        (Outcome::Done { body, .. }, Ok(Outcome::Done { body: again, is_replay })) => *is_replay && body == again,
        (Outcome::Refused { .. }, Ok(Outcome::Done { is_replay, .. })) => !is_replay,
        (Outcome::Unknown(_), Ok(Outcome::Done { .. })) => true,
        _ => false,
    };
    (!is_right).then(|| format!("{asked:?} is {again:?} in the end, after {before:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_under_sqlite_refuses_and_loses_nothing() {
    let (place, disk) = match Place::on_a_small_disk().await {
        Ok((place, disk)) => (Arc::new(place), disk),
        Err(why) => {
            eprintln!("SKIPPED: a full disk needs a file system of its own, and {why}");
            return;
        }
    };
    let begun = Instant::now();
    let path = format!("/v1/organizations/{}/consume", place.organization("acme", 1_000_000).await);
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|client| {
        let (place, path, is_over) = (Arc::clone(&place), path.clone(), Arc::clone(&is_over));
        tokio::spawn(async move {
            let mut sent = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                sent.push(send(&place, one(&path, format!("{client}-{}", sent.len()))).await);
                sleep(REST).await;
            }
            sent
        })
    });
    let clients: Vec<_> = clients.collect();
    let fills = setting("FILLS", 1_usize);
    let mut sent = Vec::new();
    let mut slowest = Duration::ZERO;
    for fill in 0..fills {
        sleep(Duration::from_millis(500)).await;
        let filled = Instant::now();
        // What is freed may be taken at once by what has waited for it.
        while filled.elapsed() < FULL_FOR {
            disk.fill();
            sleep(Duration::from_millis(20)).await;
        }
        disk.free();
        let freed = Instant::now();
        for attempt in 0.. {
            let probe = send(&place, one(&path, format!("probe-{fill}-{attempt}"))).await;
            let is_done = matches!(probe.1, Ok(Outcome::Done { .. }));
            sent.push(probe);
            if is_done {
                break;
            }
            assert!(freed.elapsed() < BACK, "{:?}", sent.last());
        }
        slowest = slowest.max(freed.elapsed());
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        sent.extend(client.await.unwrap());
    }
    let count = |is: fn(&Outcome) -> bool| sent.iter().filter(|(_, it)| it.as_ref().is_ok_and(is)).count();
    let asked = sent.len();
    let done = count(|it| matches!(it, Outcome::Done { .. }));
    let refused = count(|it| matches!(it, Outcome::Refused { .. }));
    let settled = stream::iter(sent).map(|sent| settle(&place, sent)).buffer_unordered(TOGETHER);
    let mut violations: Vec<String> = settled.filter_map(ready).collect().await;
    let there = place.consumptions().await;
    if usize::try_from(there) != Ok(asked) {
        violations.push(format!("{there} are in the ledger, of {asked}"));
    }
    violations.extend(place.verify().await);
    report(&format!(
        "| {} | full disk under SQLite, seed {} | {} s | {asked} asked, {done} done, {refused} refused, {} unknown; filled \
         {fills} times; first success {slowest:.1?} after there was room | {} |",
        today(),
        seed(),
        begun.elapsed().as_secs(),
        asked - done - refused,
        violations.len()
    ));
    assert!(violations.is_empty(), "{violations:#?}");
    assert!(0 < done && done < asked, "{done} done, {refused} refused of {asked}: it was not full");
}
