//! Load: consumptions over kept connections, as fast as they are answered or at a rate that knows no mercy.
//!
//! On a thread of its own, like the benchmark's, so that it takes one processor at most from what is measured. At a rate,
//! each request goes when it is due, on a connection that is free or else on a new one: whoever is slow to answer has more
//! of them open, as with the clients of the world.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use multicredit::bench::client::Client;
use multicredit::bench::histogram::Histogram;
use tests::fault::Random;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::place::ADMIN_KEY;
use super::setting;

/// How many files a process here needs beside connections.
const OTHER_FILES: usize = 300;

/// After how long an answer no longer comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often what is due is looked for.
const PACE: Duration = Duration::from_millis(1);

/// What is asked, of whom, for how long.
#[derive(Clone)]
pub struct Pressure {
    pub address: SocketAddr,
    pub organizations: Vec<String>,
    /// What every key begins with.
    pub name: String,
    pub during: Duration,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    pub sent: u64,
    /// Consumptions, and how long they took from being sent.
    pub done: Histogram,
    /// Those that were answered while the load lasted.
    pub in_time: u64,
    /// The same by the second in which they were due.
    pub by_second: Vec<Histogram>,
    /// Refusals for there being too much, or for having taken too long, and how long they took.
    pub refused: Histogram,
    /// What should have been sent when all connections were taken.
    pub unsent: u64,
    /// What was not answered: connections that ended before there was a place for them, or waited for one for too long.
    pub unanswered: u64,
    /// Anything else.
    pub other: u64,
    pub first_other: Option<String>,
    pub connections: usize,
}

impl Tally {
    /// Consumptions a second, while the load lasted.
    pub fn goodput(&self, during: Duration) -> f64 {
        count(self.in_time) / during.as_secs_f64()
    }
}

/// A number as one that can be divided.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub const fn count(number: u64) -> f64 {
    number as f64
}

/// How many connections there may be: as many as are wanted, and as this process and the server may have.
fn connections_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files = files.split_whitespace().next().unwrap().parse().unwrap_or(usize::MAX);
    setting("CONNECTIONS", 2_000).min(files.saturating_sub(OTHER_FILES))
}

impl Pressure {
    /// As many at once as it is said, each the next when it has the answer to the last.
    pub async fn closed(self, clients: usize) -> Tally {
        self.on_a_thread(Box::new(move |it, tally| {
            Box::pin(async move {
                let begun = Instant::now();
                let clients = (0..clients).map(|nth| {
                    let (it, tally) = (it.clone(), Rc::clone(&tally));
                    tokio::task::spawn_local(async move {
                        let mut client = None;
                        let mut random = Random::new(nth as u64);
                        let mut number = 0;
                        while begun.elapsed() < it.during {
                            let request = it.request(&mut random, &format!("{nth}-{number}"));
                            number += 1;
                            client = it.exchange(client, &request, begun, &tally).await;
                        }
                    })
                });
                futures_util::future::join_all(clients).await;
            })
        }))
        .await
    }

    /// So many a second, whatever becomes of them.
    pub async fn open(self, rate: f64) -> Tally {
        self.on_a_thread(Box::new(move |it, tally| {
            Box::pin(async move {
                let begun = Instant::now();
                let idle: Rc<RefCell<Vec<Client>>> = Rc::default();
                let mut random = Random::new(1);
                let connections_max = connections_max();
                let (mut number, mut tasks) = (0_u64, tokio::task::JoinSet::new());
                while begun.elapsed() < it.during {
                    while count(number) < begun.elapsed().as_secs_f64() * rate {
                        number += 1;
                        let client = idle.borrow_mut().pop();
                        let open = tasks.len() + idle.borrow().len();
                        if client.is_none() && open >= connections_max {
                            tally.borrow_mut().unsent += 1;
                            continue;
                        }
                        let request = it.request(&mut random, &number.to_string());
                        let (it, tally, idle) = (it.clone(), Rc::clone(&tally), Rc::clone(&idle));
                        tasks.spawn_local(async move {
                            let client = it.exchange(client, &request, begun, &tally).await;
                            idle.borrow_mut().extend(client);
                        });
                    }
                    while tasks.try_join_next().is_some() {}
                    let open = tasks.len() + idle.borrow().len();
                    let most = tally.borrow().connections.max(open);
                    tally.borrow_mut().connections = most;
                    sleep(PACE).await;
                }
                tasks.join_all().await;
            })
        }))
        .await
    }

    async fn on_a_thread(self, drive: Drive) -> Tally {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let tally = Rc::<RefCell<Tally>>::default();
            LocalSet::new().block_on(&runtime, drive(Rc::new(self), Rc::clone(&tally)));
            // The tasks that held it have ended.
            let _ = sender.send(tally.take());
        });
        receiver.await.unwrap()
    }

    fn request(&self, random: &mut Random, key: &str) -> Vec<u8> {
        let organization = &self.organizations[random.below(self.organizations.len())];
        let body = r#"{"action":"ai_chat"}"#;
        format!(
            "POST /v1/organizations/{organization}/consume HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_KEY}\r\n\
             Idempotency-Key: {}-{key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.name,
            body.len()
        )
        .into_bytes()
    }

    /// Sends one and notes what came of it. Answers the connection, if it can be used again.
    async fn exchange(
        &self,
        client: Option<Client>,
        request: &[u8],
        begun: Instant,
        tally: &RefCell<Tally>,
    ) -> Option<Client> {
        let sent_at = Instant::now();
        let said = timeout(PATIENCE, async {
            let mut client = match client {
                Some(client) => client,
                None => Client::connect(self.address).await?,
            };
            let answer = client.exchange(request).await?;
            let (noted, is_last) = (Noted::of(answer.status, answer.body), answer.is_last);
            Ok::<_, io::Error>(((!is_last).then_some(client), noted))
        })
        .await;
        let took = sent_at.elapsed();
        let mut tally = tally.borrow_mut();
        tally.sent += 1;
        let (client, noted) = match said {
            Ok(Ok((client, noted))) => (client, noted),
            Ok(Err(error)) => (None, Noted::of_error(&error)),
            Err(_) => (None, Noted::Unanswered),
        };
        match noted {
            Noted::Done => {
                tally.done.record(took);
                tally.in_time += u64::from(begun.elapsed() < self.during);
                let second = usize::try_from((sent_at - begun).as_secs()).unwrap_or(usize::MAX);
                if tally.by_second.len() <= second {
                    tally.by_second.resize_with(second + 1, Histogram::default);
                }
                tally.by_second[second].record(took);
            }
            Noted::Refused => tally.refused.record(took),
            Noted::Unanswered => tally.unanswered += 1,
            Noted::Other(what) => {
                tally.other += 1;
                tally.first_other.get_or_insert(what);
            }
        }
        client
    }
}

/// What drives the load, on its thread.
type Drive = Box<dyn FnOnce(Rc<Pressure>, Rc<RefCell<Tally>>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// What an answer is.
enum Noted {
    Done,
    Refused,
    Unanswered,
    Other(String),
}

impl Noted {
    fn of_error(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => Self::Unanswered,
            _ => Self::Other(error.to_string()),
        }
    }

    fn of(status: [u8; 3], body: &[u8]) -> Self {
        let is = |code: &[u8]| body.windows(code.len()).any(|window| window == code);
        match &status {
            b"201" => Self::Done,
            b"503" if is(br#""overloaded""#) || is(br#""unavailable""#) => Self::Refused,
            b"429" if is(br#""too_many_requests""#) => Self::Refused,
            _ => Self::Other(String::from_utf8_lossy(body).into_owned()),
        }
    }
}
