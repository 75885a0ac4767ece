//! Chromium, driven by WebDriver (W3C): JSON over HTTP to chromedriver. The libraries for it come
//! with licences that `deny.toml` does not take.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::process::{Process, clean};
use crate::support::{PATIENCE, soon};

/// How an element is named in answers (WebDriver §12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The Tab key (WebDriver §17.4.2).
pub(crate) const TAB: &str = "\u{e004}";
/// The Enter key.
pub(crate) const ENTER: &str = "\u{e007}";

/// A running chromedriver. It ends its browsers when it is asked to quit them.
pub(crate) struct Driver {
    process: Process,
    url: String,
    client: reqwest::Client,
    home: TempDir,
}

/// One window of a browser of its own.
pub(crate) struct Browser<'a> {
    driver: &'a Driver,
    session: String,
}

impl Driver {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        // The port that it chooses may be taken by the time it listens there.
        for _ in 0..5 {
            let mut command = clean("chromedriver", home.path());
            command.arg("--port=0");
            let process = Process::spawn("chromedriver", command);
            let started = process.wait_for("its port or its end", |lines| {
                let of = |line: &String| {
                    let (_, port) = line.split_once("was started successfully on port ")?;
                    Some(Ok(port.trim_end_matches('.').to_owned()))
                };
                let failed = |line: &String| line.contains("Exiting").then_some(Err(()));
                lines
                    .iter()
                    .find_map(|line| of(line).or_else(|| failed(line)))
            });
            if let Ok(port) = started.await {
                let client = reqwest::Client::builder().no_proxy().build();
                return Self {
                    url: format!("http://127.0.0.1:{port}"),
                    process,
                    client: client.expect("a client"),
                    home,
                };
            }
        }
        panic!("chromedriver finds no port");
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        assert!(self.process.is_running(), "chromedriver has ended");
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let exchange = async {
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let is_ok = answer.status().is_success();
            let mut answer: Value = answer.json().await.map_err(|error| error.to_string())?;
            match is_ok {
                true => Ok(answer["value"].take()),
                false => Err(answer["value"]["message"].to_string()),
            }
        };
        soon("an answer of chromedriver", exchange).await
    }

    /// A window of 1280 × 860 pixels.
    pub(crate) async fn browser(&self) -> Browser<'_> {
        self.open(true).await
    }

    /// One without JavaScript.
    pub(crate) async fn browser_without_javascript(&self) -> Browser<'_> {
        self.open(false).await
    }

    async fn open(&self, has_javascript: bool) -> Browser<'_> {
        let profile = tempfile::tempdir_in(self.home.path())
            .expect("a directory")
            .keep();
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--window-size=1280,860".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--lang=en-US".to_owned(),
            // Nothing but the platform is to be reached.
            "--no-proxy-server".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-gpu".to_owned(),
            // Containers have little of it.
            "--disable-dev-shm-usage".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        if nix::unistd::geteuid().is_root() {
            arguments.push("--no-sandbox".to_owned());
        }
        // 2 blocks.
        let javascript = if has_javascript { 1 } else { 2 };
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {
                "args": arguments,
                "prefs": {"profile.managed_default_content_settings.javascript": javascript},
            },
        }}});
        let answer = self
            .request(Method::POST, "/session", Some(capabilities))
            .await;
        let answer = answer.expect("a browser");
        Browser {
            driver: self,
            session: answer["sessionId"].as_str().expect("an id").to_owned(),
        }
    }
}

impl Browser<'_> {
    async fn command(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let path = format!("/session/{}{path}", self.session);
        self.driver.request(method, &path, body).await
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.command(Method::POST, path, Some(body)).await
    }

    async fn get(&self, path: &str) -> Result<Value, String> {
        self.command(Method::GET, path, None).await
    }

    /// Loads a page completely.
    pub(crate) async fn open(&self, url: &str) {
        self.post("/url", json!({"url": url}))
            .await
            .expect("a page");
    }

    pub(crate) async fn url(&self) -> String {
        let url = self.get("/url").await.expect("a URL");
        url.as_str().expect("text").to_owned()
    }

    async fn find(&self, selector: &str) -> Result<String, String> {
        let body = json!({"using": "css selector", "value": selector});
        let found = self.post("/element", body).await?;
        let id = found[ELEMENT].as_str();
        id.map(str::to_owned)
            .ok_or_else(|| format!("no {selector}"))
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await.expect(selector);
        let path = format!("/element/{element}/click");
        self.post(&path, json!({})).await.expect(selector);
    }

    pub(crate) async fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector).await.expect(selector);
        let path = format!("/element/{element}/value");
        self.post(&path, json!({"text": text}))
            .await
            .expect(selector);
    }

    /// What a person sees of an element.
    pub(crate) async fn try_text(&self, selector: &str) -> Result<String, String> {
        let element = self.find(selector).await?;
        let text = self.get(&format!("/element/{element}/text")).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        self.try_text(selector).await.expect(selector)
    }

    /// What a person sees of an element is `wanted`, within `limit`.
    pub(crate) async fn shows_within(&self, selector: &str, wanted: &str, limit: Duration) {
        let end = tokio::time::Instant::now() + limit;
        loop {
            let seen = self.try_text(selector).await;
            if seen.as_ref().is_ok_and(|text| text.contains(wanted)) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < end,
                "{selector}: {wanted:?} not within {} s, but {seen:?} at {}",
                limit.as_secs(),
                self.url().await
            );
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    pub(crate) async fn shows(&self, selector: &str, wanted: &str) {
        self.shows_within(selector, wanted, PATIENCE).await;
    }

    /// The value of `script`, which ends in `return`.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.post("/execute/sync", body).await.expect("a script")
    }

    /// The value that `script` gives to its last argument.
    pub(crate) async fn run_async(&self, script: &str) -> Value {
        let body = json!({"script": script, "args": []});
        self.post("/execute/async", body).await.expect("a script")
    }

    /// A key is pressed, wherever the focus is.
    pub(crate) async fn press(&self, key: &str) {
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": [
            {"type": "keyDown", "value": key},
            {"type": "keyUp", "value": key},
        ]}]});
        self.post("/actions", actions).await.expect("a key");
    }

    /// A command of the DevTools protocol.
    async fn devtools(&self, command: &str, parameters: Value) {
        let body = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", body).await.expect(command);
    }

    /// Whether the person prefers dark pages.
    pub(crate) async fn set_dark(&self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    /// The size of the window's inside, in pixels.
    pub(crate) async fn set_size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
    }

    /// A picture of what is in the window, as PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        use base64::Engine as _;
        let picture = self.get("/screenshot").await.expect("a picture");
        let text = picture.as_str().expect("text");
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .expect("base64")
    }

    /// What the browser has said since it was asked last: of scripts, and of what a policy forbids.
    pub(crate) async fn console(&self) -> Vec<String> {
        let log = self
            .post("/se/log", json!({"type": "browser"}))
            .await
            .expect("a log");
        let entries = log.as_array().expect("entries").iter();
        entries.map(|entry| entry["message"].to_string()).collect()
    }

    pub(crate) async fn quit(self) {
        let ended = self.command(Method::DELETE, "", None).await;
        ended.expect("an end");
    }
}
