//! How often the ledger waits for PostgreSQL: the round trips of a batch, counted on the wire.
//!
//! `docs/PERFORMANCE.md` gives these numbers. A proxy between the store and the server counts how often the server says
//! that it is ready for the next query, which it says once in each round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use multicredit_domain::OrganizationId;
use multicredit_store::{ConsumeItem, Store, StoreConfig};
use tests::fixtures::{ai, key, organization, purchase, request};
use tests::{Engine, TestDb, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A proxy before a server, and how many round trips have passed through it.
struct Proxy {
    address: String,
    round_trips: Arc<AtomicUsize>,
}

impl Proxy {
    async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let round_trips = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&round_trips);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&count)));
            }
        });
        Self { address, round_trips }
    }

    fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::SeqCst)
    }
}

async fn pass(client: TcpStream, server: TcpStream, count: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    // The first answer may be the one byte that refuses encryption.
    let first = from_server.read_u8().await.unwrap();
    to_client.write_u8(first).await.unwrap();
    let mut kind = (first != b'N').then_some(first);
    loop {
        let letter = if let Some(letter) = kind.take() {
            letter
        } else {
            let Ok(letter) = from_server.read_u8().await else { return };
            if to_client.write_u8(letter).await.is_err() {
                return;
            }
            letter
        };
        let Ok(length) = from_server.read_u32().await else { return };
        let mut body = vec![0; length as usize - 4];
        if from_server.read_exact(&mut body).await.is_err() {
            return;
        }
        // Counted before the client can see it.
        if letter == b'Z' {
            count.fetch_add(1, Ordering::SeqCst);
        }
        let mut message = length.to_be_bytes().to_vec();
        message.append(&mut body);
        if to_client.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// A store whose connections go through a proxy.
async fn store_behind_a_proxy(db: &TestDb) -> (Store, Proxy) {
    let url = db.url();
    let (before, rest) = url.split_once('@').unwrap();
    let (server, database) = rest.split_once('/').unwrap();
    let server = server.replace("localhost", "127.0.0.1");
    let proxy = Proxy::before(server).await;
    let store = Store::open(StoreConfig::new(format!("{before}@{}/{database}", proxy.address))).await.unwrap();
    (store, proxy)
}

/// What everybody has: more than any test here spends.
const CREDITS: i64 = 1_000_000;

fn item(organization_id: OrganizationId, text: &str) -> ConsumeItem {
    ConsumeItem { organization_id, request: request("ai_chat", 1), key: key(text) }
}

#[test]
fn a_batch_of_any_size_is_one_round_trip_where_everybody_can_afford_it() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let mut organizations = Vec::new();
        for number in 0..50 {
            organizations.push(organization(&store, &format!("organization-{number}"), ai(CREDITS)).await);
        }
        let batch = |round: &str, count: usize| {
            let of = |number: usize| item(organizations[number % 50], &format!("{round}-{number}"));
            (0..count).map(of).collect::<Vec<_>>()
        };
        let consume = async |items: Vec<ConsumeItem>| {
            let before = proxy.round_trips();
            for answer in store.consume_many(items).await {
                answer.unwrap();
            }
            proxy.round_trips() - before
        };
        // The first learns the prices, by the portable path; the second prepares the call.
        consume(batch("prices", 1)).await;
        consume(batch("call", 1)).await;
        assert_eq!(consume(batch("one", 1)).await, 1);
        assert_eq!(consume(batch("many", 64)).await, 1);
        assert_eq!(consume(batch("most", 1_000)).await, 1);

        // A key that comes again: BEGIN, the lock, the clock, prices, keys, what was answered then, ROLLBACK, after the
        // call that looks for keys and leaves the organization out.
        consume(batch("one", 1)).await;
        let replayed = consume(batch("one", 1)).await;
        assert!(replayed <= 8, "{replayed}");
        store.close().await;
    });
}

#[test]
fn a_grant_is_as_many_round_trips_as_the_table_in_the_ledger_says() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        for _ in 0..2 {
            store.grant(acme, purchase(ai(CREDITS)), None).await.unwrap();
        }
        let before = proxy.round_trips();
        store.grant(acme, purchase(ai(CREDITS)), None).await.unwrap();
        let one = proxy.round_trips() - before;
        // BEGIN, lock, clock, five for the book; account, grant, movement, and three for the audit log; COMMIT.
        assert!((10..=16).contains(&one), "{one}");
        store.close().await;
    });
}

#[test]
fn a_key_that_another_server_has_bound_is_found_and_costs_no_second_charge() {
    run(Engine::Postgres, async |db| {
        let (store, proxy) = store_behind_a_proxy(&db).await;
        let other = Store::open(StoreConfig::new(db.url())).await.unwrap();
        let acme = organization(&store, "acme", ai(CREDITS)).await;
        for key in ["a", "b"] {
            store.consume_many(vec![item(acme, key)]).await.pop().unwrap().unwrap();
        }
        let first = other.consume_many(vec![item(acme, "theirs")]).await.pop().unwrap().unwrap();
        let before = proxy.round_trips();
        let answers = store.consume_many(vec![item(acme, "mine"), item(acme, "theirs")]).await;
        assert!(proxy.round_trips() - before > 2, "the call failed, and was asked again");
        let [mine, again] = <[_; 2]>::try_from(answers).map_err(|_| "two").unwrap().map(Result::unwrap);
        assert!(!mine.replayed);
        assert!(again.replayed);
        assert_eq!(again.value, first.value);
        let balance = store.balance(acme).await.unwrap();
        assert_eq!(balance.balance.available, ai(CREDITS - 4));
        other.close().await;
        store.close().await;
    });
}
