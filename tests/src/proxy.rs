//! A proxy before PostgreSQL that understands enough of its protocol to count, and to fail at an exact point.
//!
//! It counts how often the server says that it is ready for the next query, once in each round trip. It cuts a
//! connection just before a commit is passed on, after the server has committed and before it can say so, and in the
//! middle of a message. It can be slow, or a black hole, in both directions. It can stand still at an exact point of a
//! consumption, so that a test can kill the server just there. And it can lie: pass on another statement than the one that
//! was to be prepared.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The name under which the ledger's writers connect; others are not cut.
const LEDGER: &[u8] = b"multicredit ledger";

/// The function whose call is a transaction of its own: it commits at the end of its message.
const CALL: &[u8] = b"consume_credits_express(";

/// What only the statement says that locks accounts.
const LOCK: &[u8] = b"FOR NO KEY UPDATE OF c";

/// The version of the protocol with which a session begins; anything else before it asks for something else.
const PROTOCOL: [u8; 4] = [0, 3, 0, 0];

/// A message of this size and more is one that carries a batch.
const BATCH_BYTES: usize = 100;

/// Where a connection of the ledger is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The commit is not passed on.
    BeforeCommit,
    /// The commit is passed on, and the answer is not.
    AfterCommit,
    /// Half of a message of a batch is passed on.
    MidBatch,
    /// The rollback is not passed on.
    BeforeRollback,
}

/// A point of a transaction of the ledger at which a connection stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// What begins it is not passed on.
    BeforeBegin,
    /// The accounts are locked, and the server has not been told. The express path's one statement has no such point.
    AfterLock,
    /// Everything is written, and what commits it is not passed on.
    AfterWrite,
    /// What commits it was passed on this instant.
    CommitSent,
    /// It is committed, and the server has not been told.
    CommitDone,
}

/// A part of a statement, and what is prepared instead of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lie {
    /// What a server means.
    pub of: &'static str,
    /// What PostgreSQL is told.
    pub instead: &'static str,
}

/// What the connections of a proxy share.
#[derive(Default)]
struct Shared {
    round_trips: AtomicUsize,
    /// What is to be cut, in this order.
    cuts: Mutex<VecDeque<Cut>>,
    made: AtomicUsize,
    delay_ms: AtomicU64,
    distance_ms: AtomicU64,
    lies: Mutex<Vec<Lie>>,
    refuses: AtomicBool,
    partition: watch::Sender<bool>,
    /// Where the next connection of the ledger is to stand still that comes there.
    stop: Mutex<Option<Stop>>,
    standing: watch::Sender<Standing>,
}

/// What has become of the connection that is to stand still. It goes from one to the next and never back, since both
/// directions of a connection can come to the point, and one of them after the other has gone on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    NotYet,
    Still,
    /// It has ended, or is about to.
    Over,
}

/// A proxy before a server.
pub struct Proxy {
    address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy before the server at that `host:port`.
    ///
    /// # Panics
    ///
    /// If nothing can listen on this machine.
    pub async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens").to_string();
        let shared = Arc::new(Shared::default());
        let passing = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server.clone(), Arc::clone(&passing)));
            }
        });
        Self { address, shared }
    }

    /// A proxy before the server of a database, and the URL of the database through it.
    ///
    /// # Panics
    ///
    /// If it is no URL of the form `postgres://user@host:port/database`.
    pub async fn before_database(url: &str) -> (Self, String) {
        let (before, rest) = url.split_once('@').expect("a user");
        let (server, database) = rest.split_once('/').expect("a database");
        let proxy = Self::before(server.replace("localhost", "127.0.0.1")).await;
        let url = format!("{before}@{}/{database}", proxy.address);
        (proxy, url)
    }

    /// How many round trips have passed.
    pub fn round_trips(&self) -> usize {
        self.shared.round_trips.load(Ordering::SeqCst)
    }

    /// Cuts once more, when it comes to that and to what was to be cut before.
    pub fn cut(&self, cut: Cut) {
        self.shared.cuts().push_back(cut);
    }

    /// How many cuts were made.
    pub fn cuts_made(&self) -> usize {
        self.shared.made.load(Ordering::SeqCst)
    }

    /// Holds back every message for so long.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay_ms.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Passes on other statements than those that are prepared from now on, where the lie is about them.
    pub fn lie(&self, lie: Lie) {
        self.shared.lies.lock().unwrap_or_else(PoisonError::into_inner).push(lie);
    }

    /// Hangs up on whoever connects, or does so no more.
    pub fn refuse(&self, refuses: bool) {
        self.shared.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Has every round trip take so much longer, as to a server that is far away.
    pub fn distance(&self, distance: Duration) {
        self.shared.distance_ms.store(u64::try_from(distance.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Has a connection stand still there, the next time that one comes there which has moved credits before.
    pub fn stop(&self, stop: Stop) {
        self.shared.standing.send_replace(Standing::NotYet);
        *self.shared.stop.lock().unwrap_or_else(PoisonError::into_inner) = Some(stop);
    }

    /// Waits until a connection stands still.
    ///
    /// # Panics
    ///
    /// Never.
    pub async fn stopped(&self) {
        let mut standing = self.shared.standing.subscribe();
        standing.wait_for(|standing| *standing == Standing::Still).await.expect("the proxy is here");
    }

    /// Ends the connection that stands still, on both sides.
    pub fn hang_up(&self) {
        self.shared.standing.send_replace(Standing::Over);
    }

    /// Lets nothing through any more, in any direction, or everything again.
    pub fn partition(&self, is_partitioned: bool) {
        self.shared.partition.send_replace(is_partitioned);
    }
}

impl Shared {
    fn cuts(&self) -> std::sync::MutexGuard<'_, VecDeque<Cut>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether that is to be cut now.
    fn takes(&self, cut: Cut) -> bool {
        let mut cuts = self.cuts();
        let is_next = cuts.front() == Some(&cut);
        if is_next {
            cuts.pop_front();
            self.made.fetch_add(1, Ordering::SeqCst);
        }
        is_next
    }

    /// Whether a connection is to stand still there now.
    fn stops(&self, at: Stop) -> bool {
        let mut stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = *stop == Some(at);
        if is_there {
            *stop = None;
        }
        is_there
    }

    /// Stands still until the connection is to end.
    async fn stand_still(&self) {
        self.standing.send_if_modified(|standing| {
            let comes = *standing == Standing::NotYet;
            if comes {
                *standing = Standing::Still;
            }
            comes
        });
        // The sender lives as long as this value.
        let _ = self.standing.subscribe().wait_for(|standing| *standing == Standing::Over).await;
    }

    /// The message that prepares a statement, as it is passed on.
    fn told(&self, message: Vec<u8>) -> Vec<u8> {
        let lies = self.lies.lock().unwrap_or_else(PoisonError::into_inner);
        lies.iter().fold(message, |message, lie| lie.tell(message))
    }

    /// Waits as long as a round trip takes.
    async fn travel(&self) {
        let distance = self.distance_ms.load(Ordering::SeqCst);
        if distance > 0 {
            tokio::time::sleep(Duration::from_millis(distance)).await;
        }
    }

    /// Waits as long as a message has to.
    async fn gate(&self) {
        let delay = self.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
        let mut partition = self.partition.subscribe();
        // The sender lives as long as this value.
        let _ = partition.wait_for(|is_partitioned| !is_partitioned).await;
    }
}

impl Lie {
    /// The message with the lie in the place of what it is about. Its length stands behind its letter.
    fn tell(&self, mut message: Vec<u8>) -> Vec<u8> {
        let (of, instead) = (self.of.as_bytes(), self.instead.as_bytes());
        if let Some(at) = message.windows(of.len()).position(|window| window == of) {
            message.splice(at..at + of.len(), instead.iter().copied());
            let length = u32::try_from(message.len() - 1).unwrap_or(u32::MAX);
            message[1..5].copy_from_slice(&length.to_be_bytes());
        }
        message
    }
}

/// Passes on what both sides say until one of them ends, or is cut off: then both are.
async fn pass(client: TcpStream, server: String, shared: Arc<Shared>) {
    shared.gate().await;
    if shared.refuses.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(&server).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mood = Mood::default();
    tokio::select! {
        _ = ask(from_client, to_server, &shared, &mood) => {}
        _ = answer(from_server, to_client, &shared, &mood) => {}
    }
}

/// What the one direction of a connection has to know of the other.
#[derive(Default)]
struct Mood {
    /// Nothing more is answered, and the end of the next answer is that of the connection.
    is_silent: AtomicBool,
    /// Nothing more is answered, and at the end of the next answer the connection stands still.
    holds_answers: AtomicBool,
}

/// Reads what comes after a message's letter.
async fn body(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize((length as usize).max(4), 0);
    from.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// Passes on what the client says.
async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, mood: &Mood) -> std::io::Result<()> {
    let is_ledger = loop {
        let message = body(&mut from).await?;
        to.write_all(&message).await?;
        if message.get(4..8) == Some(&PROTOCOL[..]) {
            break contains(&message, LEDGER);
        }
    };
    let mut session = Session::default();
    loop {
        let letter = from.read_u8().await?;
        let mut message = body(&mut from).await?;
        message.insert(0, letter);
        shared.gate().await;
        if [b'S', b'Q'].contains(&letter) {
            shared.travel().await;
        }
        let point = session.point(letter, &message[5..]).filter(|_| is_ledger);
        let stops = |at| session.is_a_writers() && shared.stops(at);
        let is_before = match point {
            Some(Point::Begin) => stops(Stop::BeforeBegin),
            Some(Point::Batch) => session.is_call && stops(Stop::BeforeBegin),
            Some(Point::Commit) => stops(Stop::AfterWrite),
            _ => false,
        };
        if is_before {
            shared.stand_still().await;
            return Ok(());
        }
        match point {
            Some(Point::Commit) if shared.takes(Cut::BeforeCommit) => return Ok(()),
            Some(Point::Commit) if shared.takes(Cut::AfterCommit) => mood.is_silent.store(true, Ordering::SeqCst),
            Some(Point::Commit) if stops(Stop::CommitSent) => {
                mood.holds_answers.store(true, Ordering::SeqCst);
                to.write_all(&message).await?;
                shared.stand_still().await;
                return Ok(());
            }
            Some(Point::Commit) if stops(Stop::CommitDone) => mood.holds_answers.store(true, Ordering::SeqCst),
            Some(Point::Lock) if stops(Stop::AfterLock) => mood.holds_answers.store(true, Ordering::SeqCst),
            Some(Point::Rollback) if shared.takes(Cut::BeforeRollback) => return Ok(()),
            Some(Point::Batch) if shared.takes(Cut::MidBatch) => {
                return to.write_all(&message[..message.len() / 2]).await;
            }
            _ if letter == b'P' => message = shared.told(message),
            _ => {}
        }
        to.write_all(&message).await?;
    }
}

/// Passes on what the server says, as far as the mood allows.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, mood: &Mood) -> std::io::Result<()> {
    let mut is_first = true;
    loop {
        let letter = from.read_u8().await?;
        // The first answer may be the one byte that refuses encryption.
        if std::mem::take(&mut is_first) && letter == b'N' {
            to.write_u8(letter).await?;
            continue;
        }
        let mut message = body(&mut from).await?;
        message.insert(0, letter);
        let is_ready = letter == b'Z';
        let holds_answers = mood.holds_answers.load(Ordering::SeqCst);
        if holds_answers || mood.is_silent.load(Ordering::SeqCst) {
            if is_ready {
                if holds_answers {
                    shared.stand_still().await;
                }
                return Ok(());
            }
            continue;
        }
        shared.gate().await;
        // Counted before the client can see it.
        if is_ready {
            shared.round_trips.fetch_add(1, Ordering::SeqCst);
        }
        to.write_all(&message).await?;
    }
}

/// A point of a session at which it can be cut, or stand still.
enum Point {
    Begin,
    /// The end of the statement that locks accounts.
    Lock,
    Commit,
    Rollback,
    Batch,
}

/// What must be remembered of a session to know its points.
#[derive(Default)]
struct Session {
    /// The names of the prepared calls that are transactions of their own.
    calls: HashSet<Vec<u8>>,
    /// The names of the prepared statements that lock accounts.
    locks: HashSet<Vec<u8>>,
    is_call: bool,
    is_lock: bool,
    is_in_transaction: bool,
}

impl Session {
    /// Whether it has moved credits before. Jobs of the background have the same name, and do not.
    fn is_a_writers(&self) -> bool {
        !self.calls.is_empty() || !self.locks.is_empty()
    }

    fn point(&mut self, letter: u8, body: &[u8]) -> Option<Point> {
        match letter {
            b'Q' if body.starts_with(b"COMMIT") => {
                self.is_in_transaction = false;
                Some(Point::Commit)
            }
            b'Q' if body.starts_with(b"ROLLBACK") => {
                self.is_in_transaction = false;
                Some(Point::Rollback)
            }
            b'Q' => {
                let begins = body.starts_with(b"BEGIN");
                self.is_in_transaction |= begins;
                begins.then_some(Point::Begin)
            }
            b'P' => {
                if contains(body, CALL) {
                    self.calls.insert(text(body).to_vec());
                } else if contains(body, LOCK) {
                    self.locks.insert(text(body).to_vec());
                }
                None
            }
            b'B' => {
                let statement = text(&body[(text(body).len() + 1).min(body.len())..]);
                self.is_call = self.calls.contains(statement);
                self.is_lock = self.locks.contains(statement);
                let is_batch = self.is_call || (self.is_in_transaction && body.len() >= BATCH_BYTES);
                is_batch.then_some(Point::Batch)
            }
            b'S' => {
                let (is_call, is_lock) = (std::mem::take(&mut self.is_call), std::mem::take(&mut self.is_lock));
                if is_call { Some(Point::Commit) } else { is_lock.then_some(Point::Lock) }
            }
            _ => None,
        }
    }
}

/// The bytes before the first zero.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
