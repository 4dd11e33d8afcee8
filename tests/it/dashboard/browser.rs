//! The dashboard in Chromium: what a person does, with a mouse and without, and what they see.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::app::{TestApp, served};
use tests::both_engines;
use tests::webdriver::{Browser, Look, keys};

/// Where pictures of the pages are left, to be looked at.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard").join(format!("{name}.png"))
}

fn address(app: &TestApp, path: &str) -> String {
    format!("http://{}{path}", app.admin.address())
}

async fn log_in(app: &TestApp, browser: &Browser, key: &str) {
    browser.go(&address(app, "/dashboard")).await;
    browser.find("input[name=key]").await.write(key).await;
    browser.find(".gate button").await.click().await;
}

/// Nothing on the console, and nothing asked for beyond the server.
async fn assert_is_quiet(app: &TestApp, browser: &Browser) {
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    let ours = address(app, "/dashboard");
    let requests = browser.requests().await;
    let foreign: Vec<_> = requests.iter().filter(|url| url.starts_with("http") && !url.starts_with(&ours)).collect();
    assert!(!requests.is_empty() && foreign.is_empty(), "{foreign:?}");
}

/// The page does not scroll sideways, however small the screen.
async fn assert_fits(browser: &Browser) {
    let widths = browser.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]").await;
    let url = browser.url().await;
    assert_eq!(widths[0], widths[1], "{url} scrolls sideways");
}

both_engines!(
    a_person_logs_in_finds_an_organization_and_sees_how_it_goes_down,
    served(async |app| {
        app.organization("Other & Sons", json!({ "sms": 5 })).await;
        let acme = app.organization("Acme Europe", json!({ "ai": 5_000, "whatsapp": 900 })).await;
        for _ in 0..4 {
            let spent = json!({ "action": "whatsapp_ai_reply", "quantity": 25 });
            app.admin.post(&acme.path("/consume")).json(spent).await.expect(201);
        }
        app.admin
            .post(&acme.path("/consume"))
            .json(json!({ "action": "sms" }))
            .await
            .refused(402, "insufficient_credits");
        let browser = Browser::start().await;
        let engine = format!("{:?}", app.db().engine()).to_lowercase();
        log_in(app, &browser, app.admin.key().unwrap()).await;
        browser.find("#q").await.write("acme").await;
        browser.find(".search button").await.click().await;
        // The page before has the same organization in its first line.
        browser.find("input[value=acme]").await;
        browser.expect_text("table.cards a.strong", "Acme Europe").await;
        assert_eq!(browser.count("table.cards tbody tr").await, 1);
        browser.find("table.cards a.strong").await.click().await;
        browser.expect_text("[data-available=ai]", "4,900").await;
        assert_eq!(browser.url().await, address(app, &format!("/dashboard/organizations/{}", acme.id)));
        assert!(browser.title().await.starts_with("Acme Europe"));
        browser.expect_text("[data-available=whatsapp]", "800").await;
        // What is spent meanwhile shows without anybody asking, by whatever process.
        let replica = app.replica().await;
        let spent = json!({ "action": "whatsapp_ai_reply", "quantity": 50 });
        replica.admin.post(&acme.path("/consume")).json(spent).await.expect(201);
        browser.expect_text("[data-available=ai]", "4,850").await;
        browser.expect_text("[data-available=whatsapp]", "750").await;
        browser.expect_text("[data-sequence]", "6").await;
        browser.expect_text("[data-asof]", "now").await;
        let adjustment = json!({ "change": { "ai": 50, "whatsapp": 50 }, "reason": "given back" });
        replica.admin.post(&acme.path("/adjustments")).json(adjustment).await.expect(201);
        browser.expect_text("[data-available=ai]", "4,900").await;
        replica.stop().await;
        // The chart has its points, and the last of them is drawn where the balance is.
        assert_eq!(browser.count("[data-chart=ai] circle.dot").await, 25);
        assert_eq!(
            browser.evaluate("document.querySelector('[data-chart=ai] .dot:last-of-type').getBBox().width > 3").await,
            true
        );
        let last = "[...document.querySelectorAll('[data-chart=ai] .dot title')].pop().textContent";
        assert!(browser.evaluate(last).await.as_str().unwrap().ends_with(": 4,900"));
        assert_eq!(browser.count("[data-chart=sms]").await, 0);
        // The style is in force: the policy lets it through.
        let padding = "getComputedStyle(document.querySelector('.card')).borderTopLeftRadius";
        assert_eq!(browser.evaluate(padding).await, "10px");

        for look in [Look::Light, Look::Dark, Look::Phone] {
            browser.look(look).await;
            for (name, path) in [
                ("fleet", "/dashboard".to_owned()),
                ("organizations", "/dashboard/organizations".to_owned()),
                ("organization", format!("/dashboard/organizations/{}", acme.id)),
                ("usage", format!("/dashboard/organizations/{}/usage", acme.id)),
                ("lots", format!("/dashboard/organizations/{}/lots", acme.id)),
                ("holds", format!("/dashboard/organizations/{}/holds", acme.id)),
                ("statement", format!("/dashboard/organizations/{}/statement", acme.id)),
                ("performance", "/dashboard/performance".to_owned()),
            ] {
                browser.go(&address(app, &path)).await;
                assert_fits(&browser).await;
                let look = format!("{look:?}").to_lowercase();
                browser.picture(&picture(&format!("{engine}-{name}-{look}"))).await;
            }
        }
        assert_is_quiet(app, &browser).await;
        browser.look(Look::Light).await;
        browser.find(".logout button").await.click().await;
        browser.expect_text("h1", "Log in").await;
        browser.go(&address(app, "/dashboard")).await;
        browser.expect_text("h1", "Log in").await;
    })
);

both_engines!(
    a_wrong_key_and_a_bound_one,
    served(async |app| {
        let own = app.organization("Acme", json!({ "ai": 5 })).await;
        let other = app.organization("Other", json!({ "ai": 7 })).await;
        let browser = Browser::start().await;
        log_in(app, &browser, "mc_this-is-no-key-of-anybody").await;
        assert!(browser.find("[role=alert]").await.text().await.contains("not valid"));
        browser.look(Look::Phone).await;
        assert_fits(&browser).await;
        let engine = format!("{:?}", app.db().engine()).to_lowercase();
        browser.picture(&picture(&format!("{engine}-wrong-key-phone"))).await;
        browser.look(Look::Light).await;

        let bound = app.bound_key(&["read"], &own).await;
        log_in(app, &browser, bound.key().unwrap()).await;
        browser.expect_text("[data-available=ai]", "5").await;
        assert_eq!(browser.url().await, address(app, &format!("/dashboard/organizations/{}", own.id)));
        assert_eq!(browser.count(".top nav a").await, 1);
        browser.go(&address(app, &format!("/dashboard/organizations/{}", other.id))).await;
        browser.expect_text("h1", "No such organization").await;
        browser.picture(&picture(&format!("{engine}-not-found"))).await;
        // No script can read the session.
        assert_eq!(browser.evaluate("document.cookie").await, "");
        // Everything else that the console says is of the two pages that were refused.
        let complaints = browser.complaints().await;
        let other: Vec<_> = complaints.iter().filter(|it| !it.contains(" 401 ") && !it.contains(" 404 ")).collect();
        assert!(other.is_empty(), "{other:?}");
    })
);

both_engines!(
    everything_can_be_done_without_a_mouse,
    served(async |app| {
        let acme = app.organization("Acme", json!({ "ai": 42 })).await;
        app.organization("Other", json!({})).await;
        let browser = Browser::start().await;
        browser.go(&address(app, "/dashboard")).await;
        // The field has the focus already.
        browser.press(app.admin.key().unwrap()).await;
        browser.press(keys::ENTER).await;
        browser.find("#alerts").await;
        // The first stop leads past the navigation.
        browser.press(keys::TAB).await;
        let focus = "document.activeElement.className";
        assert_eq!(browser.evaluate(focus).await, Value::from("skip"));
        let ring = "getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(browser.evaluate(ring).await, "solid", "the focus is seen");
        browser.tab_to("it.textContent === 'Organizations'").await;
        browser.press(keys::ENTER).await;
        browser.find("table.cards").await;
        browser.tab_to("it.id === 'q'").await;
        browser.press("acme").await;
        browser.press(keys::ENTER).await;
        browser.find("input[value=acme]").await;
        browser.tab_to("it.textContent === 'Acme'").await;
        browser.press(keys::ENTER).await;
        browser.expect_text("[data-available=ai]", "42").await;
        assert_eq!(browser.url().await, address(app, &format!("/dashboard/organizations/{}", acme.id)));
        browser.tab_to("it.tagName === 'SUMMARY'").await;
        browser.press(keys::ENTER).await;
        assert_eq!(browser.count("details[open] table").await, 1, "the figures of a chart open");
        browser.tab_to("it.textContent === 'Statement' || it.textContent === 'All lots'").await;
        browser.press(keys::ENTER).await;
        browser.find("#lots, #statement").await;
        browser.tab_to("it.textContent === 'Log out'").await;
        browser.press(keys::ENTER).await;
        browser.find("input[name=key]").await;
        assert_is_quiet(app, &browser).await;
    })
);
