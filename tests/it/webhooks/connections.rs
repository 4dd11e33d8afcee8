//! The connections that webhooks take: kept where they can be, with TLS where the URL says so, and not too many at a time.

use std::num::NonZeroU32;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use multicredit::webhook::courier::Courier;
use multicredit::webhook::deliverer::Deliverer;
use multicredit_domain::EventType;
use serde_json::json;
use tests::app::{Organization, TestApp, own_network, served};
use tests::receiver::{Answer, Receiver};
use tests::scratch::Scratch;
use tests::{Engine, both_engines, run};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{PATH, deliverer, hook};
use crate::cli::process::{Server, program};

const CONSUMED: &[EventType] = &[EventType::CreditsConsumed];

async fn consume(app: &TestApp, organization: &Organization, times: usize) {
    for _ in 0..times {
        app.admin.post(&organization.path("/consume")).json(json!({ "action": "ai_chat" })).await.expect(201);
    }
}

/// How the attempts of an endpoint ended, and how often they had been made.
async fn attempts(app: &TestApp, hook: &super::Hook) -> Vec<(String, i64)> {
    let log = app.admin.get(&format!("{}/deliveries?limit=100", hook.path)).await.expect(200);
    let lines = log["items"].as_array().unwrap().iter();
    lines.map(|it| (it["outcome"].as_str().unwrap().to_owned(), it["attempt"].as_i64().unwrap())).collect()
}

both_engines!(
    a_connection_is_kept_for_what_is_told_next,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let receiver = Receiver::start().await;
        let hook = hook(app, &receiver, Some(&acme), Some(CONSUMED)).await;
        consume(app, &acme, 20).await;
        let deliverer = deliverer(&app.store);
        receiver.until_taken(20).await;
        deliverer.stop().await;
        // A second one if what followed was found while the first was still on its way back.
        assert!(receiver.connections() <= 2, "{}", receiver.connections());
        assert_eq!(attempts(app, &hook).await, vec![("delivered".to_owned(), 1); 20]);
    })
);

both_engines!(
    a_connection_that_the_receiver_has_ended_is_no_failure,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let receiver = Receiver::start().await;
        receiver.behave(|_| Answer::Abandon(200));
        let hook = hook(app, &receiver, Some(&acme), Some(CONSUMED)).await;
        consume(app, &acme, 20).await;
        let deliverer = deliverer(&app.store);
        let received = receiver.until_taken(20).await;
        deliverer.stop().await;
        assert_eq!(received.len(), 20, "nothing was sent twice");
        assert_eq!(attempts(app, &hook).await, vec![("delivered".to_owned(), 1); 20]);
    })
);

both_engines!(
    no_more_are_sent_than_may_be,
    served(async |app| {
        let acme = app.organization("acme", json!({ "ai": 100 })).await;
        let (one, two) = (Receiver::start().await, Receiver::start().await);
        hook(app, &one, Some(&acme), Some(CONSUMED)).await;
        hook(app, &two, None, Some(CONSUMED)).await;
        consume(app, &acme, 20).await;
        let began = Instant::now();
        let rate = NonZeroU32::new(20).unwrap();
        let deliverer = Deliverer::start(app.store.clone(), Courier::new(own_network()), rate);
        one.until_taken(20).await;
        two.until_taken(20).await;
        let took = began.elapsed();
        deliverer.stop().await;
        // 40 of them at 20 a second, two of which may come at once.
        assert!(took.as_secs_f64() >= 1.85, "{took:?}");
        assert_eq!((one.received().len(), two.received().len()), (20, 20));
    })
);

/// Takes TLS off connections and hands them on.
struct Terminator {
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Terminator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Terminator {
    async fn start(certificate: &Path, key: &Path, onward: u16) -> Self {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not trust the certificate ends it here.
                    let Ok(mut plain) = acceptor.accept(stream).await else { return };
                    let mut onward = TcpStream::connect(("127.0.0.1", onward)).await.unwrap();
                    let _ = copy_bidirectional(&mut plain, &mut onward).await;
                });
            }
        });
        Self { port, task }
    }
}

/// A certificate for this machine, which nobody trusts by itself, and its key.
fn make_certificate(certificate: &Path, key: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args([std::ffi::OsStr::new("-keyout"), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
}

/// A server process that trusts a certificate or does not, and an endpoint behind TLS.
async fn told_by_tls(database_url: &str, trusted: Option<&Path>, port: u16) -> (Server, String) {
    const KEY: &str = "an-admin-key-of-this-test-0123456789";
    let mut command = program(database_url, &["serve", "--admin-key", KEY, "--webhook-allow", "127.0.0.0/8"]);
    if let Some(certificate) = trusted {
        command.env("SSL_CERT_FILE", certificate);
    }
    let mut server = Server::spawn(command).await;
    server.client = server.client.with_key(KEY);
    let new = json!({ "url": format!("https://127.0.0.1:{port}/hook"), "events": ["grant.created"] });
    let made = server.client.post(PATH).json(new).await.expect(201);
    (server, format!("{PATH}/{}", made["id"].as_str().unwrap()))
}

#[test]
fn a_receiver_behind_tls_is_told_if_its_certificate_is_trusted_and_not_otherwise() {
    run(Engine::Sqlite, async |db| {
        let directory = Scratch::start(false).unwrap();
        let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
        make_certificate(&certificate, &key);
        let receiver = Receiver::start().await;
        let terminator = Terminator::start(&certificate, &key, receiver.port()).await;

        let (server, endpoint) = told_by_tls(db.url(), None, terminator.port).await;
        let sent = server.client.post(&format!("{endpoint}/test")).await.expect(201);
        assert_eq!(sent["outcome"], "failed");
        assert!(sent["error"].as_str().unwrap().starts_with("no TLS: "), "{sent}");
        assert!(receiver.received().is_empty());
        server.kill().await;

        let (server, endpoint) = told_by_tls(db.url(), Some(&certificate), terminator.port).await;
        let sent = server.client.post(&format!("{endpoint}/test")).await.expect(201);
        assert_eq!((&sent["outcome"], &sent["status_code"]), (&json!("delivered"), &json!(204)));
        let new = json!({ "name": "acme", "external_id": "acme" });
        let made = server.client.post("/v1/organizations").json(new).await.expect(201);
        let grants = format!("/v1/organizations/{}/grants", made["id"].as_str().unwrap());
        for _ in 0..5 {
            let grant = json!({ "credits": { "ai": 1 }, "source": "purchase" });
            server.client.post(&grants).json(grant).await.expect(201);
        }
        receiver.until_taken(6).await;
        server.kill().await;
    });
}
