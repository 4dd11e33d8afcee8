//! What happens on the wire: bodies that are too large, in pieces, or cut off, connections that are kept or dropped.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::future::join_all;
use multicredit::app::AppSettings;
use multicredit::server::Connections;
use multicredit_store::StoreConfig;
use serde_json::{Value, json};
use tests::app::{Organization, TestApp, credits, served};
use tests::both_engines;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::metrics::scrape;

const MEBIBYTE: usize = 1 << 20;

/// How long an answer may take on the wire.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection, byte for byte.
struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer: its head, whose names are in small letters, and its body.
struct Raw {
    head: String,
    body: Vec<u8>,
}

impl Raw {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Wire {
    async fn to(app: &TestApp) -> Self {
        Self { stream: TcpStream::connect(app.admin.address()).await.unwrap(), unread: Vec::new() }
    }

    /// Writes all of it before anything is read, as many clients do.
    async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the server reads").expect("the server listens");
    }

    /// Reads one answer.
    async fn read(&mut self) -> Raw {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            self.fill().await;
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        let head = format!("{line}\r\n{}", headers.to_lowercase());
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            self.fill().await;
        }
        Raw { head, body: self.unread.drain(..length).collect() }
    }

    async fn fill(&mut self) {
        let read =
            timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await.expect("there is an answer").unwrap();
        assert_ne!(read, 0, "the connection ended: {}", String::from_utf8_lossy(&self.unread));
    }
}

/// A request that consumes; `headers` are whole lines.
fn head(app: &TestApp, organization: &Organization, headers: &str) -> String {
    format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n{headers}\r\n",
        organization.path("/consume"),
        app.admin.key().unwrap(),
    )
}

fn whole(app: &TestApp, organization: &Organization, headers: &str, body: &str) -> Vec<u8> {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    (head(app, organization, &headers) + body).into_bytes()
}

const SPEND: &str = r#"{"action":"ai_chat"}"#;

both_engines!(
    whoever_sends_too_much_can_read_the_answer_afterwards_and_go_on,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        for mebibytes in [2, 8] {
            let mut wire = Wire::to(app).await;
            wire.write(&whole(app, &acme, "", &" ".repeat(mebibytes * MEBIBYTE))).await;
            let answer = wire.read().await;
            assert_eq!((answer.status(), &answer.json()["code"]), (413, &json!("payload_too_large")));
            assert!(answer.head.contains("content-type: application/problem+json\r\n"), "{}", answer.head);
            wire.write(&whole(app, &acme, "", SPEND)).await;
            assert_eq!(wire.read().await.status(), 201, "after {mebibytes} MiB");
        }
        assert_eq!(app.available(&acme).await, credits(8, 0, 0, 0));
    })
);

both_engines!(
    a_body_in_chunks_is_measured_as_it_comes,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let mut wire = Wire::to(app).await;
        wire.write(head(app, &acme, "Transfer-Encoding: chunked\r\n").as_bytes()).await;
        for part in [&SPEND[..7], &SPEND[7..]] {
            wire.write(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        wire.write(b"0\r\n\r\n").await;
        assert_eq!(wire.read().await.status(), 201);

        wire.write(head(app, &acme, "Transfer-Encoding: chunked\r\n").as_bytes()).await;
        let chunk = format!("{:x}\r\n{}\r\n", 65_536, " ".repeat(65_536));
        for _ in 0..32 {
            wire.write(chunk.as_bytes()).await;
        }
        wire.write(b"0\r\n\r\n").await;
        assert_eq!(wire.read().await.status(), 413);
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    whoever_asks_first_is_told_to_go_on_or_not_to,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let asks = |length: usize| head(app, &acme, &format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"));
        let mut wire = Wire::to(app).await;
        wire.write(asks(SPEND.len()).as_bytes()).await;
        assert_eq!(wire.read().await.status(), 100);
        wire.write(SPEND.as_bytes()).await;
        assert_eq!(wire.read().await.status(), 201);

        let mut wire = Wire::to(app).await;
        wire.write(asks(2 * MEBIBYTE).as_bytes()).await;
        assert_eq!(wire.read().await.status(), 413);
    })
);

both_engines!(
    a_connection_is_kept_and_answers_come_in_the_order_of_the_requests,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        let mut wire = Wire::to(app).await;
        let five: Vec<u8> = (0..5).flat_map(|_| whole(app, &acme, "", SPEND)).collect();
        wire.write(&five).await;
        let mut left = Vec::new();
        for _ in 0..5 {
            left.push(wire.read().await.json()["available"]["ai"].clone());
        }
        assert_eq!(left, [9, 8, 7, 6, 5]);
        // A refusal ends no connection.
        wire.write(&whole(app, &acme, "", "{")).await;
        assert_eq!(wire.read().await.status(), 400);
        wire.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert_eq!(wire.read().await.status(), 200);
        let mut rest = Vec::new();
        assert_eq!(
            timeout(PATIENCE, wire.stream.read_to_end(&mut rest)).await.unwrap().unwrap(),
            0,
            "it was asked to close"
        );
    })
);

both_engines!(
    a_request_that_was_cut_off_does_nothing,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 10 })).await;
        for cut in [10, 200, 1] {
            let request = whole(app, &acme, "", SPEND);
            let mut wire = Wire::to(app).await;
            wire.write(&request[..request.len() - cut]).await;
            drop(wire);
        }
        app.admin.post(&acme.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
        assert_eq!(app.available(&acme).await, credits(9, 0, 0, 0));
    })
);

both_engines!(
    whoever_hangs_up_after_asking_has_asked_and_finds_the_answer_under_the_key,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 1_000 })).await;
        let hang_up = async |number: usize| {
            let mut wire = Wire::to(app).await;
            wire.write(&whole(app, &acme, &format!("Idempotency-Key: k{number}\r\n"), SPEND)).await;
        };
        join_all((0..40).map(hang_up)).await;
        let ask_again = async |number: usize| {
            let call = app.admin.post(&acme.path("/consume")).once(&format!("k{number}"));
            call.json(json!({ "action": "ai_chat" })).await.expect(201)["sequence"].as_i64().unwrap()
        };
        let mut sequences = join_all((0..40).map(ask_again)).await;
        sequences.sort_unstable();
        assert_eq!(sequences, (2..42).collect::<Vec<_>>());
        assert_eq!(app.available(&acme).await, credits(960, 0, 0, 0));
    })
);

both_engines!(beyond_what_it_serves_a_server_says_so_and_answers_who_asks_how_it_is, async |db| {
    let connections = Connections::new(NonZeroU32::new(3).unwrap());
    let settings = AppSettings { connections: connections.clone(), ..AppSettings::default() };
    let config = StoreConfig::new(db.url());
    let app = TestApp::with_settings(db, config, settings).await;
    let acme = app.organization("acme", json!({ "ai": 10 })).await;
    let ask = async |wire: &mut Wire| {
        wire.write(&whole(&app, &acme, "", SPEND)).await;
        wire.read().await
    };
    // Some are kept by the client that made the organization.
    let mut served = Vec::new();
    let (mut last, refused) = loop {
        let mut wire = Wire::to(&app).await;
        let answer = ask(&mut wire).await;
        if answer.status() != 201 {
            break (wire, answer);
        }
        served.push(wire);
    };
    assert!((1..=3).contains(&served.len()) && connections.open() == 3, "{}", served.len());
    assert_eq!((refused.status(), &refused.json()["code"]), (503, &json!("overloaded")));
    for header in ["content-type: application/problem+json", "retry-after: 1", "connection: close"] {
        assert!(refused.head.contains(&format!("{header}\r\n")), "{}", refused.head);
    }
    let request_id = format!("x-request-id: {}\r\n", refused.json()["request_id"].as_str().unwrap());
    assert!(refused.head.contains(&request_id), "{}", refused.head);
    assert_eq!(timeout(PATIENCE, last.stream.read_to_end(&mut last.unread)).await.unwrap().unwrap(), 0);

    let mut probe = Wire::to(&app).await;
    for part in ["GET /hea", "lth/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"] {
        probe.write(part.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(probe.read().await.status(), 200);

    // Those who are served notice nothing, and one who goes makes room.
    assert_eq!(ask(&mut served[0]).await.status(), 201);
    let spent = served.len() + 2;
    drop(served);
    until(|| connections.open() < 3).await;
    assert_eq!(ask(&mut Wire::to(&app).await).await.status(), 201);
    assert_eq!(app.available(&acme).await["ai"], 10 - spent);
    assert_eq!(scrape(&app.admin).await.value("multicredit_http_connections_refused_total", &[]), Some(2.0));
    app.finish().await;
});

/// Waits until that is so.
async fn until(is_so: impl Fn() -> bool) {
    timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("it becomes so");
}

both_engines!(
    a_callers_request_id_comes_back_in_the_header_and_the_problem_if_it_is_a_plain_one,
    served(async |app| {
        let call = |id: &str| app.admin.get("/v1/actions/nothing").header("X-Request-Id", id);
        for good in ["trace-1", "0199A3d4.519f_7d11", &"x".repeat(128)] {
            let problem = call(good).await.refused(404, "unknown_action");
            assert_eq!(problem["request_id"], good);
        }
        for bad in ["", "a b", "<script>", &"x".repeat(129), "a\u{e9}"] {
            let problem = call(bad).await.refused(404, "unknown_action");
            assert!(problem["request_id"].as_str().unwrap().parse::<uuid::Uuid>().is_ok(), "{problem}");
        }
    })
);

both_engines!(
    http_2_is_spoken_with_those_who_begin_with_it,
    served(async |app| {
        for (version, expected) in [("--http1.1", "200 1.1"), ("--http2-prior-knowledge", "200 2")] {
            let mut curl = Command::new("curl");
            curl.args([version, "--silent", "--show-error", "--output", "/dev/null"]);
            curl.args(["--write-out", "%{http_code} %{http_version}"]);
            curl.args(["--header", &format!("Authorization: Bearer {}", app.admin.key().unwrap())]);
            let said = curl.arg(format!("http://{}/v1/actions", app.admin.address())).output().await.unwrap();
            assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{said:?}");
        }
    })
);
