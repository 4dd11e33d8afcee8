//! The dashboard: what it shows and to whom, over HTTP on both engines, and in a real browser.
//!
//! That every page has its policy, no script, and nothing from elsewhere is asserted by the client itself.

mod browser;
mod figures;
mod sessions;

use hyper::header::{COOKIE, SET_COOKIE};
use tests::app::{Answer, Client};

/// What the cookie of a session is called.
const COOKIE_NAME: &str = "multicredit_session";

/// The form to log in, sent as a browser does from a page of ours.
async fn log_in_with(client: &Client, key: &str, next: &str) -> Answer {
    let form = format!("key={}&next={}", escape(key), escape(next));
    client
        .without_key()
        .post("/dashboard/login")
        .header("Sec-Fetch-Site", "same-origin")
        .body("application/x-www-form-urlencoded", form)
        .await
}

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| encoded + &format!("%{byte:02X}"))
}

/// The cookie that an answer sets: the token, and everything that is said about it.
fn cookie_of(answer: &Answer) -> (String, String) {
    let cookie = answer.header(SET_COOKIE.as_str()).unwrap_or_else(|| panic!("{answer}: no cookie"));
    let (pair, attributes) = cookie.split_once(';').unwrap();
    let token = pair.strip_prefix(&format!("{COOKIE_NAME}=")).unwrap();
    (token.to_owned(), attributes.trim().to_owned())
}

/// Somebody who is logged in.
struct Visitor {
    client: Client,
    token: String,
}

impl Visitor {
    /// Logs in with the key of a client.
    async fn with_key_of(client: &Client) -> Self {
        let answer = log_in_with(client, client.key().unwrap(), "").await;
        assert_eq!(answer.status, 303, "{answer}");
        Self { client: client.without_key(), token: cookie_of(&answer).0 }
    }

    async fn get(&self, path: &str) -> Answer {
        self.client.get(path).header(COOKIE.as_str(), format!("{COOKIE_NAME}={}", self.token)).await
    }

    /// The text of a page that is there.
    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{answer}");
        text(&answer)
    }

    async fn log_out(&self, site: &str) -> Answer {
        self.client
            .post("/dashboard/logout")
            .header(COOKIE.as_str(), format!("{COOKIE_NAME}={}", self.token))
            .header("Sec-Fetch-Site", site)
            .await
    }
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}
