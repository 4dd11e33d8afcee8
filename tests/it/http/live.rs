//! `/v1/organizations/{organization_id}/events/stream`: balances as they move.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::app::{Client, Organization, credits, served};
use tests::both_engines;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::Document;
use super::walk::ABSENT;

/// How long an event may take: a second for what another process moves, and the rest for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who reads a stream, as it comes over the wire.
struct Reader {
    lines: Lines<BufReader<OwnedReadHalf>>,
    _write: OwnedWriteHalf,
}

/// An event: its name, its id and its data.
type Event = (String, i64, Value);

impl Reader {
    async fn of(client: &Client, organization: &Organization, last: Option<i64>) -> Self {
        let stream = TcpStream::connect(client.address()).await.unwrap();
        let (read, mut write) = stream.into_split();
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer {}\r\n{last}\r\n",
            organization.path("/events/stream"),
            client.key().unwrap()
        );
        write.write_all(request.as_bytes()).await.unwrap();
        let mut reader = Self { lines: BufReader::new(read).lines(), _write: write };
        let mut head = Vec::new();
        while let Some(line) = reader.line().await.filter(|line| !line.is_empty()) {
            head.push(line.to_lowercase());
        }
        assert_eq!(head[0], "http/1.1 200 ok", "{head:?}");
        for header in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
            assert!(head.iter().any(|line| line == header), "{head:?}");
        }
        reader
    }

    async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap()
    }

    /// The next event; `None` at the end. Sizes of chunks and comments are passed over.
    async fn event(&mut self) -> Option<Event> {
        let (mut id, mut name) = (0, String::new());
        while let Some(line) = self.line().await {
            match line.split_once(": ") {
                Some(("id", text)) => id = text.parse().unwrap(),
                Some(("event", text)) => text.clone_into(&mut name),
                Some(("data", text)) => return Some((name, id, text.parse().unwrap())),
                _ if line == "0" => return None,
                _ => {}
            }
        }
        None
    }

    async fn movements(&mut self, count: usize) -> Vec<Value> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let (name, id, data) = self.event().await.unwrap();
            assert_eq!((name.as_str(), &data["sequence"]), ("movement", &id.into()));
            seen.push(data);
        }
        seen
    }
}

/// The whole ledger, oldest first.
async fn ledger(client: &Client, organization: &Organization) -> Vec<Value> {
    let mut lines = client.all(&organization.path("/ledger"), 100).await;
    lines.reverse();
    lines
}

both_engines!(
    an_event_is_what_the_document_says_that_one_is,
    served(async |app| {
        let described = app.stranger().get("/openapi.json").await.expect(200);
        let operation = &described["paths"]["/v1/organizations/{organization_id}/events/stream"]["get"];
        let schema = &operation["responses"]["200"]["content"]["text/event-stream"]["schema"];
        assert_eq!(schema["type"], "object");
        let document = Document::of(app).await;
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let mut reader = Reader::of(&app.admin, &acme, None).await;
        app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        for _ in 0..2 {
            let (name, id, data) = reader.event().await.unwrap();
            let event = json!({ "id": id.to_string(), "event": name, "data": data.to_string() });
            assert_eq!(document.mismatches(schema, &event), Vec::<String>::new());
        }
        assert_ne!(
            document.mismatches(schema, &json!({ "id": "1", "event": "other", "data": "{}" })),
            Vec::<String>::new()
        );
    })
);

both_engines!(
    a_stream_begins_with_the_balance_and_goes_on_with_every_movement_whoever_makes_it,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let other = app.organization("other", json!({ "ai": 100 })).await;
        let replica = app.replica().await;
        let mut reader = Reader::of(&app.admin, &acme, None).await;
        let (name, id, data) = reader.event().await.unwrap();
        let balance = json!({ "available": credits(100, 0, 0, 0), "held": credits(0, 0, 0, 0) });
        assert_eq!((name.as_str(), id), ("balance", 1));
        assert_eq!(data, json!({ "sequence": 1, "balance_after": balance }));
        let spent = json!({ "action": "ai_chat", "quantity": 3 });
        app.admin.post(&acme.path("/consume")).json(spent.clone()).await.expect(201);
        app.admin.post(&other.path("/consume")).json(spent.clone()).await.expect(201);
        replica.admin.post(&acme.path("/holds")).json(spent.clone()).await.expect(201);
        replica.admin.post(&acme.path("/consume")).json(spent).await.expect(201);
        let seen = reader.movements(3).await;
        assert_eq!(seen, ledger(&app.admin, &acme).await[1..], "as the ledger has them");
        assert_eq!(seen[2]["balance_after"]["held"], credits(3, 0, 0, 0));
        drop(reader);
        replica.stop().await;
    })
);

both_engines!(
    whoever_comes_back_with_the_last_id_goes_on_without_a_gap,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        let spend = async |count: usize| {
            let calls = (0..count).map(|_| {
                let call = app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" }));
                async move { drop(call.await.expect(201)) }
            });
            futures_util::future::join_all(calls).await;
        };
        spend(40).await;
        let mut reader = Reader::of(&app.admin, &acme, Some(20)).await;
        let mut seen = reader.movements(5).await;
        drop(reader);
        let hold = json!({ "action": "ai_chat", "quantity": 5 });
        let hold = app.admin.post(&acme.path("/holds")).json(hold).await.expect(201);
        // More than a page, while it reads.
        let mut reader = Reader::of(&app.admin, &acme, Some(25)).await;
        spend(150).await;
        let capture = acme.path(&format!("/holds/{}/capture", hold["id"].as_str().unwrap()));
        app.admin.post(&capture).await.expect(201);
        let all = ledger(&app.admin, &acme).await;
        seen.extend(reader.movements(all.len() - 25).await);
        assert_eq!(seen, all[20..]);
        // An id of another database says nothing here.
        let (name, id, _) = Reader::of(&app.admin, &acme, Some(9_999)).await.event().await.unwrap();
        assert_eq!((name.as_str(), id), ("balance", i64::try_from(all.len()).unwrap()));
        let mut first = Reader::of(&app.admin, &acme, Some(0)).await;
        assert_eq!(first.movements(all.len()).await, all);
    })
);

both_engines!(
    a_stream_is_refused_like_any_other_read,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let other = app.organization("other", json!({ "ai": 1 })).await;
        let path = acme.path("/events/stream");
        for bad in ["-1", "", "x", "1.0", "99999999999999999999"] {
            let refused = app.admin.get(&path).header("Last-Event-ID", bad).await.refused(400, "invalid_request");
            assert_eq!(refused["errors"][0]["field"], "Last-Event-ID");
        }
        app.stranger().get(&path).await.refused(401, "unauthorized");
        app.key(&["consume"]).await.get(&path).await.refused(403, "forbidden_scope");
        app.bound_key(&["read"], &other).await.get(&path).await.refused(404, "unknown_organization");
        app.admin.get(&path.replace(&acme.id, ABSENT)).await.refused(404, "unknown_organization");
        // What has no end has no length.
        let head = app.admin.call(hyper::Method::HEAD, &path).await;
        assert_eq!((head.status, head.header("Content-Length")), (200, None));
    })
);

both_engines!(
    a_stream_ends_when_the_server_stops,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1 })).await;
        let replica = app.replica().await;
        let mut reader = Reader::of(&replica.admin, &acme, None).await;
        reader.event().await.unwrap();
        let asked_at = Instant::now();
        // It says by itself when it had to cut something off.
        replica.stop().await;
        assert_eq!(reader.event().await, None);
        assert!(asked_at.elapsed() < Duration::from_secs(5), "{:?}", asked_at.elapsed());
    })
);
