//! `OTEL_EXPORTER_OTLP_ENDPOINT`: what a collector of spans is told, and that a server does without it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tests::both_engines;
use tokio::net::TcpListener;

use super::process::{Server, program};

const ADMIN_KEY: &str = "an-admin-key-of-this-test-0123456789";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

type Received = Arc<Mutex<Vec<(String, Bytes)>>>;

/// Takes whatever it is sent, and remembers it with its path.
async fn collector() -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, received) = (listener.local_addr().unwrap(), Received::default());
    let memory = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let memory = memory.clone();
            let take = service_fn(move |request: Request<Incoming>| {
                let memory = memory.clone();
                async move {
                    let path = request.uri().path().to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    memory.lock().unwrap().push((path, body));
                    Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), take));
        }
    });
    (address, received)
}

fn contains(body: &Bytes, part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

async fn server(database_url: &str, endpoint: &str) -> Server {
    let mut command = program(database_url, &["serve"]);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("MULTICREDIT_LOG", "warn")
        .env("MULTICREDIT_ADMIN_KEY", ADMIN_KEY);
    let mut server = Server::spawn(command).await;
    server.client = server.client.with_key(ADMIN_KEY);
    server
}

both_engines!(a_collector_is_told_of_requests_within_their_callers_traces_and_of_no_secret, async |db| {
    let (address, received) = collector().await;
    let server = server(db.url(), &format!("http://{address}/")).await;
    let new = json!({ "name": "the-name-that-nobody-may-see" });
    let parent = format!("00-{TRACE_ID}-00f067aa0ba902b7-01");
    let made = server.client.post("/v1/organizations").header("traceparent", &parent).json(new).await.expect(201);
    let path = format!("/v1/organizations/{}/consume", made["id"].as_str().unwrap());
    let spend = json!({ "action": "ai_chat" });
    server.client.post(&path).header("traceparent", &parent).json(spend).await.refused(402, "insufficient_credits");
    server.stop().await;

    let received = received.lock().unwrap();
    assert!(!received.is_empty() && received.iter().all(|(path, _)| path == "/v1/traces"), "{received:?}");
    let bodies: Vec<_> = received.iter().map(|(_, body)| body.clone()).collect();
    let all = Bytes::from(bodies.concat());
    for told in ["createOrganization", "consume", "batch", "multicredit", "http.response.status_code", "request_id"] {
        assert!(contains(&all, told.as_bytes()), "nothing was told of {told}");
    }
    assert!(contains(&all, &unhex(TRACE_ID)), "the caller's trace goes on");
    for secret in [ADMIN_KEY, "the-name-that-nobody-may-see", made["id"].as_str().unwrap()] {
        assert!(!contains(&all, secret.as_bytes()), "{secret} was told");
    }
});

both_engines!(a_collector_that_is_not_there_holds_nobody_up, async |db| {
    // Nobody listens at a port that was given back.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = server(db.url(), &format!("http://{nobody}")).await;
    let begun = Instant::now();
    for _ in 0..20 {
        server.client.get("/v1/actions").await.expect(200);
    }
    server.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
});
