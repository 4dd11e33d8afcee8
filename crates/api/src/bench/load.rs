//! The load: many connections on one thread, in a closed loop or an open one.
//!
//! In a closed loop each connection sends its next request when it has the answer to the last, which finds the highest
//! rate, but hides how long requests would have waited that were not sent meanwhile. In an open loop requests are due
//! at a fixed rate whatever becomes of them, and a latency counts from when the request was due.
//!
//! One thread, because the server needs the processors, and because a runtime without other threads to wake costs least.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::client::{Answer, Client};
use super::histogram::Histogram;
use super::request::{Call, Requests, Targets};

/// How often the pacer of an open loop looks for what is due, at most: a timer of the runtime would be exact to a
/// millisecond only, which is longer than most requests take.
const PACE: Duration = Duration::from_micros(100);

/// How much of an answer that should not be is shown.
const SHOWN_BYTES: usize = 300;

/// What to load a server with, and how long.
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// What to ask for.
    pub call: Call,
    /// The key to ask with.
    pub api_key: String,
    /// For whom.
    pub targets: Targets,
    /// From how many connections.
    pub connections: usize,
    /// Requests a second in an open loop; none in a closed one.
    pub rate: Option<f64>,
    /// How long before measuring.
    pub warm_up: Duration,
    /// How long to measure.
    pub measured: Duration,
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    /// Requests answered as they should be, within the measured time.
    pub done: u64,
    /// Requests answered as they should be, ever.
    pub acknowledged: u64,
    /// The others.
    pub failed: u64,
    /// What the first of the others got.
    pub first_failure: Option<String>,
    /// The latencies within the measured time.
    pub latencies: Histogram,
}

/// When latencies count.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

impl Load {
    /// Runs it to its end on this thread.
    pub fn run(&self) -> anyhow::Result<Tally> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime for the load")?;
        LocalSet::new().block_on(&runtime, self.drive())
    }

    async fn drive(&self) -> anyhow::Result<Tally> {
        let mut clients = Vec::with_capacity(self.connections);
        for nth in 0..self.connections {
            let client = Client::connect(self.address).await.context("cannot connect to the server")?;
            let requests = Requests::new(self.call, &self.api_key, self.targets.clone(), nth, self.connections);
            clients.push((client, requests));
        }
        let start = Instant::now();
        let window = Window { from: start + self.warm_up, until: start + self.warm_up + self.measured };
        let pace = self.rate.map(|rate| Rc::new(Pace::new(rate, window)));
        let pacer = pace.as_ref().map(|pace| pace.start());
        let connections: Vec<_> = clients
            .into_iter()
            .map(|(client, requests)| tokio::task::spawn_local(connection(client, requests, window, pace.clone())))
            .collect();
        let mut total = Tally::default();
        for connection in connections {
            total.add(&connection.await?.context("a connection broke")?);
        }
        if let (Some(pace), Some(pacer)) = (pace, pacer) {
            let due = pacer.join().map_err(|_| anyhow::anyhow!("the pacer panicked"))?;
            pace.count_unsent(due, window, &mut total);
        }
        if total.acknowledged + total.failed == 0 {
            bail!("nothing was answered");
        }
        Ok(total)
    }
}

impl Tally {
    fn note(&mut self, requests: &Requests, answer: &Answer<'_>, due_at: Instant, window: Window) {
        if !requests.is_answered(answer.status, answer.body) {
            self.failed += 1;
            self.first_failure.get_or_insert_with(|| describe(answer));
            return;
        }
        self.acknowledged += 1;
        let answered_at = Instant::now();
        if answered_at >= window.from && answered_at < window.until {
            self.done += 1;
            self.latencies.record(answered_at - due_at);
        }
    }

    /// Counts what the other has counted.
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.acknowledged += other.acknowledged;
        self.failed += other.failed;
        self.latencies.add(&other.latencies);
        if self.first_failure.is_none() {
            self.first_failure.clone_from(&other.first_failure);
        }
    }
}

fn describe(answer: &Answer<'_>) -> String {
    let shown = &answer.body[..answer.body.len().min(SHOWN_BYTES)];
    format!("{} {}", String::from_utf8_lossy(&answer.status), String::from_utf8_lossy(shown))
}

async fn connection(
    mut client: Client,
    mut requests: Requests,
    window: Window,
    pace: Option<Rc<Pace>>,
) -> io::Result<Tally> {
    let mut tally = Tally::default();
    loop {
        let due_at = match &pace {
            None => Instant::now(),
            Some(pace) => match pace.next().await {
                Some(due_at) => due_at,
                None => return Ok(tally),
            },
        };
        if due_at >= window.until {
            return Ok(tally);
        }
        let answer = client.exchange(requests.next()).await?;
        tally.note(&requests, &answer, due_at, window);
    }
}

/// When requests of an open loop are due. Whichever connection is free sends the next.
struct Pace {
    start: Instant,
    interval: f64,
    until: Instant,
    due: Arc<Semaphore>,
    sent: std::cell::Cell<u32>,
}

impl Pace {
    fn new(rate: f64, window: Window) -> Self {
        let due = Arc::new(Semaphore::new(0));
        Self { start: Instant::now(), interval: 1.0 / rate, until: window.until, due, sent: std::cell::Cell::new(0) }
    }

    /// Starts the thread that says what is due, and answers in the end how many were.
    fn start(&self) -> std::thread::JoinHandle<u32> {
        let (start, interval, until, due) = (self.start, self.interval, self.until, self.due.clone());
        std::thread::spawn(move || {
            let mut released = 0_u32;
            loop {
                let now = Instant::now();
                if now >= until {
                    due.close();
                    return released;
                }
                let mut fresh = 0;
                while start + due_after(released + fresh, interval) <= now {
                    fresh += 1;
                }
                due.add_permits(fresh as usize);
                released += fresh;
                let next = start + due_after(released, interval);
                std::thread::sleep(next.min(until).saturating_duration_since(now).max(PACE));
            }
        })
    }

    /// Waits for the next request that is due, and answers when it was; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.sent.get();
        self.sent.set(number + 1);
        Some(self.start + due_after(number, self.interval))
    }

    /// What was due and never sent, because every connection was busy, has waited until the end at least.
    fn count_unsent(&self, due: u32, window: Window, tally: &mut Tally) {
        for number in self.sent.get()..due {
            tally
                .latencies
                .record(window.until.saturating_duration_since(self.start + due_after(number, self.interval)));
        }
    }
}

fn due_after(number: u32, interval: f64) -> Duration {
    Duration::from_secs_f64(f64::from(number) * interval)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A server of one connection that takes that long for every request.
    fn server(delay: Duration, answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1_000];
            while stream.read(&mut request).is_ok_and(|read| read > 0) {
                std::thread::sleep(delay);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    fn load(address: SocketAddr, rate: Option<f64>) -> Load {
        Load {
            address,
            call: Call::Nothing,
            api_key: String::new(),
            targets: Targets::new(&[], Vec::new()),
            connections: 1,
            rate,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(400),
        }
    }

    const DELAY: Duration = Duration::from_millis(10);
    const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    #[test]
    fn a_closed_loop_hides_the_queue_and_an_open_one_shows_it() {
        let closed = load(server(DELAY, FINE), None).run().unwrap();
        assert!((10..=40).contains(&closed.done), "{}", closed.done);
        assert!(closed.latencies.percentile(500) < 3 * DELAY);

        // Twice of what the server can do: half of the requests are never sent, and waiting grows to the end.
        let open = load(server(DELAY, FINE), Some(200.0)).run().unwrap();
        assert_eq!(open.failed, 0);
        assert!((60..=81).contains(&open.latencies.total()), "{}", open.latencies.total());
        assert!(open.latencies.percentile(990) > 10 * DELAY, "{:?}", open.latencies.percentile(990));
    }

    #[test]
    fn an_open_loop_below_the_limit_keeps_its_rate() {
        let open = load(server(Duration::ZERO, FINE), Some(500.0)).run().unwrap();
        assert!((180..=201).contains(&open.done), "{}", open.done);
    }

    #[test]
    fn an_answer_that_should_not_be_is_counted_and_shown() {
        let refused = "HTTP/1.1 402 Payment Required\r\ncontent-length: 3\r\n\r\nno!";
        let tally = load(server(DELAY, refused), None).run().unwrap();
        assert_eq!((tally.acknowledged, tally.done), (0, 0));
        assert!(tally.failed > 0);
        assert_eq!(tally.first_failure.as_deref(), Some("402 no!"));
    }
}
