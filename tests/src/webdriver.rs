//! A real browser: Chromium without a window, driven by plain calls of the `WebDriver` protocol.
//!
//! The driver and the browser belong to a guardian, so that neither outlives the test, however that ends. Each test has a
//! browser of its own, with an empty profile. Names are not resolved: a page that asks for anything beyond this machine
//! fails, and [`Browser::requests`] tells of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use multicredit::throwaway::Guardian;
use serde_json::{Value, json};

/// How long the browser may take for one thing. It starts within seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// The key by which the protocol names elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Keys, as the protocol writes them.
pub mod keys {
    /// To the next control.
    pub const TAB: &str = "\u{E004}";
    /// Sends a form, follows a link.
    pub const ENTER: &str = "\u{E007}";
}

/// What a page is looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A desk, by day.
    Light,
    /// A desk, by night.
    Dark,
    /// A phone of 375 pixels.
    Phone,
}

/// A browser with one page open.
pub struct Browser {
    http: Client<HttpConnector, Full<Bytes>>,
    session: String,
    guardian: Guardian,
}

/// Something on a page.
pub struct Element<'a> {
    browser: &'a Browser,
    id: String,
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: scripts/install-test-deps.sh"))
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn start() -> Self {
        let guardian = Guardian::server("chromedriver", false, &program("chromedriver")).expect("a browser's driver");
        let http = Client::builder(TokioExecutor::new()).build_http();
        let mut browser = Self { http, session: String::new(), guardian };
        let profile = browser.guardian.directory().join("profile");
        let arguments = [
            "--headless=new",
            // Its sandbox needs rights that a container rarely has; it only ever sees our own pages.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
            "--window-size=1280,900",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let options = json!({ "binary": program("chromium"), "args": arguments });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = browser.call(Method::POST, "/session", Some(wanted)).await;
        made["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    /// A command of the protocol; what it answers.
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Value> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.guardian.port()))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("a request");
        let exchange = async {
            let response = self.http.request(request).await.expect("the driver answers");
            let is_success = response.status().is_success();
            (is_success, response.into_body().collect().await.expect("the driver's answer").to_bytes())
        };
        let (is_success, body) = tokio::time::timeout(PATIENCE, exchange).await.expect("the browser answers in time");
        let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
        let value = answer["value"].take();
        if is_success { Ok(value) } else { Err(value) }
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, &format!("/session/{}{path}", self.session), None).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, &format!("/session/{}{path}", self.session), Some(body)).await
    }

    /// Goes to an address, and waits until the page is there.
    pub async fn go(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// The address that it is at.
    ///
    /// # Panics
    ///
    /// If the browser does not say.
    pub async fn url(&self) -> String {
        self.get("/url").await.as_str().expect("an address").to_owned()
    }

    /// What the page is called.
    ///
    /// # Panics
    ///
    /// If the browser does not say.
    pub async fn title(&self) -> String {
        self.get("/title").await.as_str().expect("a title").to_owned()
    }

    /// The first element that a selector of CSS names; it may take a moment to be there.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub async fn find(&self, css: &str) -> Element<'_> {
        let path = format!("/session/{}/element", self.session);
        let started = Instant::now();
        loop {
            let wanted = json!({ "using": "css selector", "value": css });
            match self.try_call(Method::POST, &path, Some(wanted)).await {
                Ok(found) => {
                    return Element { browser: self, id: found[ELEMENT].as_str().expect("an element").to_owned() };
                }
                Err(error) if started.elapsed() > Duration::from_secs(10) => panic!("{css}: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits until the first element that a selector names has that text: a click leads to another page, which takes a
    /// moment, and what is found meanwhile is the one before.
    ///
    /// # Panics
    ///
    /// If it never has.
    pub async fn expect_text(&self, css: &str, text: &str) {
        let found = format!("document.querySelector({})?.innerText", Value::from(css));
        let started = Instant::now();
        loop {
            let path = format!("/session/{}/execute/sync", self.session);
            let script = json!({ "script": format!("return {found};"), "args": [] });
            let seen = self.try_call(Method::POST, &path, Some(script)).await;
            if seen.as_ref().is_ok_and(|seen| *seen == text) {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "{css}: {text} is {seen:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What a script says of the page. Pages have none themselves.
    pub async fn evaluate(&self, expression: &str) -> Value {
        self.post("/execute/sync", json!({ "script": format!("return {expression};"), "args": [] })).await
    }

    /// How many elements a selector names.
    ///
    /// # Panics
    ///
    /// If the browser does not say.
    pub async fn count(&self, css: &str) -> u64 {
        let css = Value::from(css);
        self.evaluate(&format!("document.querySelectorAll({css}).length")).await.as_u64().expect("a number")
    }

    /// Types on the keyboard, wherever the focus is.
    pub async fn press(&self, text: &str) {
        let strokes: Vec<Value> = text
            .chars()
            .flat_map(|key| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })])
            .collect();
        let keyboard = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.post("/actions", keyboard).await;
    }

    /// Goes from control to control by the tabulator until the one is reached for which the expression is true;
    /// `it` is the control.
    ///
    /// # Panics
    ///
    /// If it is never reached.
    pub async fn tab_to(&self, expression: &str) {
        for _ in 0..80 {
            self.press(keys::TAB).await;
            let found = self.evaluate(&format!("(it => !!({expression}))(document.activeElement)")).await;
            if found == Value::Bool(true) {
                return;
            }
        }
        panic!("no keyboard reaches {expression}")
    }

    /// A command of Chromium's own protocol.
    async fn command(&self, name: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": name, "params": parameters })).await
    }

    /// Looks at pages so from now on.
    pub async fn look(&self, look: Look) {
        let scheme = if look == Look::Dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.command("Emulation.setEmulatedMedia", features).await;
        let (width, height) = if look == Look::Phone { (375, 812) } else { (1280, 900) };
        let screen = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": look == Look::Phone
        });
        self.command("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// A picture of the whole page, into a file.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub async fn picture(&self, file: &Path) {
        let picture = self.command(
            "Page.captureScreenshot",
            json!({ "captureBeyondViewport": true, "clip": {
            "x": 0, "y": 0, "scale": 1,
            "width": self.evaluate("document.documentElement.clientWidth").await,
            "height": self.evaluate("document.documentElement.scrollHeight").await,
        } }),
        );
        let picture = picture.await;
        let bytes = from_base64(picture["data"].as_str().expect("a picture"));
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder is made");
        std::fs::write(file, bytes).expect("the picture is written");
    }

    /// What pages complained of on the console since it was last asked.
    ///
    /// # Panics
    ///
    /// If the browser does not say.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let lines = log.as_array().expect("a log").iter();
        lines.map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// What pages asked for since it was last asked, whether or not it came.
    ///
    /// # Panics
    ///
    /// If the browser does not say.
    pub async fn requests(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "performance" })).await;
        let mut urls = Vec::new();
        for line in log.as_array().expect("a log") {
            let event: Value = serde_json::from_str(line["message"].as_str().unwrap_or_default()).expect("an event");
            let event = &event["message"];
            if event["method"] == "Network.requestWillBeSent" {
                urls.push(event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
        }
        urls
    }
}

impl Element<'_> {
    async fn post(&self, action: &str, body: Value) -> Value {
        self.browser.post(&format!("/element/{}/{action}", self.id), body).await
    }

    /// Its text, as it is seen.
    ///
    /// # Panics
    ///
    /// If the browser does not say.
    pub async fn text(&self) -> String {
        let text = self.browser.get(&format!("/element/{}/text", self.id)).await;
        text.as_str().expect("a text").to_owned()
    }

    /// Clicks it.
    pub async fn click(&self) {
        self.post("click", json!({})).await;
    }

    /// Types into it.
    pub async fn write(&self, text: &str) {
        self.post("value", json!({ "text": text })).await;
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0_u32, 0);
    for value in text.bytes().filter_map(|byte| ALPHABET.iter().position(|known| *known == byte)) {
        buffer = buffer << 6 | u32::try_from(value).unwrap_or_default();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(buffer >> bits & 0xff).unwrap_or_default());
        }
    }
    bytes
}
