//! Where nothing is sent: addresses that are not public, however they are written, found or redirected to.

use multicredit::limits::WEBHOOK_RATE_DEFAULT;
use multicredit::webhook::courier::{Courier, Letter};
use multicredit::webhook::deliverer::Deliverer;
use multicredit_domain::webhook::{EventFilter, Verdict, WebhookSecret};
use multicredit_domain::{EndpointId, Timestamp};
use multicredit_store::WebhookEndpoint;
use serde_json::json;
use tests::app::served;
use tests::both_engines;
use tests::receiver::Receiver;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::{PATH, hook};

/// Ways to say an address that is not public: this machine's own, private ones, those of clouds, IPv4 inside of IPv6.
const HOSTS: [&str; 27] = [
    "127.0.0.1",
    "127.9.9.9",
    "0.0.0.0",
    "localhost",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::1]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::5efe:127.0.0.1]",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[fe80::1]",
    "224.0.0.1",
    "[ff02::1]",
    "255.255.255.255",
    "127.1",
    "2130706433",
    "0x7f000001",
];

fn endpoint(url: String) -> WebhookEndpoint {
    WebhookEndpoint {
        id: EndpointId::new(Uuid::from_u128(1)),
        organization_id: None,
        url,
        description: None,
        events: EventFilter::Usual,
        enabled: true,
        is_gone: false,
        secret: WebhookSecret::new([7; 32]),
        secret_made_at: Timestamp::UNIX_EPOCH,
        previous: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn nothing_knocks_at_a_refused_address() {
    let receiver = Receiver::start().await;
    let everywhere = TcpListener::bind("[::]:0").await;
    let courier = Courier::new(Vec::new());
    let letter = Letter { id: "evt_1", body: b"{}", at: Timestamp::UNIX_EPOCH };
    let mut ports = vec![receiver.port()];
    ports.extend(everywhere.as_ref().ok().map(|listener| listener.local_addr().unwrap().port()));
    for host in HOSTS {
        for (scheme, port) in ["http", "https"].into_iter().flat_map(|scheme| ports.iter().map(move |it| (scheme, it)))
        {
            let url = format!("{scheme}://{host}:{port}/");
            let sent = courier.send(&endpoint(url.clone()), letter).await;
            assert_eq!((sent.verdict, sent.status), (Verdict::Failed, None), "{url}: {sent:?}");
            let error = sent.error.unwrap();
            assert!(error.contains("is not public") || error.contains("was not found"), "{url}: {error}");
        }
    }
    assert_eq!(receiver.connections(), 0);
    if let Ok(listener) = everywhere {
        let knocks = tokio::time::timeout(std::time::Duration::from_millis(200), listener.accept()).await;
        assert!(knocks.is_err(), "somebody knocked: {knocks:?}");
    }
    // And not because nobody could.
    let open = Courier::new(tests::app::own_network());
    assert_eq!(open.send(&endpoint(receiver.url()), letter).await.verdict, Verdict::Delivered);
    assert_eq!(receiver.connections(), 1);
}

both_engines!(
    an_address_is_refused_when_it_is_named_and_a_name_when_it_is_used,
    served(async |app| {
        let receiver = Receiver::start().await;
        for host in ["10.0.0.1", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]", "192.168.1.1"] {
            let refused = app.admin.post(PATH).json(json!({ "url": format!("http://{host}/") })).await;
            let problem = refused.refused(400, "invalid_request");
            assert_eq!(problem["errors"][0]["field"], "url", "{host}");
        }
        let acme = app.organization("acme", json!({})).await;
        let by_name = hook(app, &receiver, Some(&acme), None).await;
        let url = format!("http://localhost:{}/", receiver.port());
        app.admin.patch(&by_name.path).json(json!({ "url": url })).await.expect(200);
        let closed = Deliverer::start(app.store.clone(), Courier::new(Vec::new()), WEBHOOK_RATE_DEFAULT);
        app.grant(&acme, json!({ "credits": { "ai": 1 }, "source": "purchase" })).await;
        let log = format!("{}/deliveries", by_name.path);
        while app.admin.all(&log, 5).await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let line = app.admin.all(&log, 5).await.remove(0);
        assert!(line["error"].as_str().unwrap().contains("is not public"), "{line}");
        assert_eq!((&line["outcome"], receiver.connections()), (&json!("failed"), 0));
        closed.stop().await;
    })
);
