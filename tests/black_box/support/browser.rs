//! A real browser: headless Chromium, driven over WebDriver.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{client::Client, until};

/// Keys of the WebDriver protocol.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";

/// Starting a browser takes long on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Name of an element's reference in WebDriver.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser with one page.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// `None`, and the reason on standard error, where there is no Chromium.
    pub fn start() -> Option<Self> {
        let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists());
        let driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let (Some(chromium), Ok(mut driver)) = (chromium, driver) else {
            eprintln!("SKIPPED: no chromium or chromedriver; run scripts/dependencies.sh test");
            return None;
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port.expect("chromedriver's port")));
        let profile = tempfile::tempdir().unwrap();
        let mut browser = Self { driver, address, session: String::new(), _profile: profile };
        let dir = format!("--user-data-dir={}", browser._profile.path().display());
        let size = "--window-size=1440,1000";
        // No sandbox: tests may run as root, and they open nothing but their own pages.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--no-first-run",
            size,
            &dir,
        ];
        let options = json!({ "binary": chromium, "args": args });
        let logs = json!({ "browser": "ALL", "performance": "ALL" });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs,
        } } });
        let made = browser.call("POST", "/session", &wanted);
        browser.session = made["sessionId"].as_str().expect("a session").to_owned();
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut client = Client::plain(self.address);
        client.patience(PATIENCE);
        let body = if method == "POST" { body.to_string() } else { String::new() };
        let answer = client.ask(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(answer.status, 200, "{method} {path} {body}: {}", answer.text());
        answer.json()["value"].clone()
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.call("POST", &format!("/session/{}/{path}", self.session), &body)
    }

    pub fn open(&self, url: &str) {
        self.post("url", json!({ "url": url }));
    }

    /// The value of an expression in the page.
    pub fn eval(&self, expression: &str) -> Value {
        self.post("execute/sync", json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// The text of the first element.
    pub fn text(&self, css: &str) -> String {
        let text = self.eval(&format!("document.querySelector({})?.innerText", json!(css)));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of an element contains this.
    pub fn until_text(&self, css: &str, part: &str) {
        let mut last = String::new();
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            last = self.text(css);
            if last.contains(part) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{css}: no {part:?} in {last:?}");
    }

    fn element(&self, css: &str) -> String {
        until(css, PATIENCE, || {
            let found = self.post("elements", json!({ "using": "css selector", "value": css }));
            found[0][ELEMENT].as_str().map(str::to_owned)
        })
    }

    /// A real click, which fails where something lies above the element.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/click"), json!({}));
    }

    /// Types into an element.
    pub fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/value"), json!({ "text": text }));
    }

    /// Presses keys, wherever the focus is.
    pub fn press(&self, keys: &str) {
        let keys = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
        });
        let keyboard = json!({ "type": "key", "id": "k", "actions": keys.collect::<Vec<_>>() });
        self.post("actions", json!({ "actions": [keyboard] }));
    }

    /// A command of the DevTools protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("goog/cdp/execute", json!({ "cmd": command, "params": parameters }))
    }

    /// Runs this in every page that is opened from now on, before scripts of its own.
    pub fn before_scripts(&self, script: &str) {
        let script = json!({ "source": script });
        self.devtools("Page.addScriptToEvaluateOnNewDocument", script);
    }

    /// `light` or `dark`.
    pub fn scheme(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// The size of the page's window.
    pub fn size(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// A picture of the window, as PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let shot = self.devtools("Page.captureScreenshot", json!({ "format": "png" }));
        boring::base64::decode_block(shot["data"].as_str().unwrap()).unwrap()
    }

    /// What the page wrote to the console, and what the browser complained about.
    pub fn console(&self) -> Vec<Value> {
        let log = self.post("se/log", json!({ "type": "browser" }));
        log.as_array().unwrap().clone()
    }

    /// Every URL that was asked for since the last call.
    pub fn requested(&self) -> Vec<String> {
        let log = self.post("se/log", json!({ "type": "performance" }));
        let messages = log.as_array().unwrap().iter();
        let messages = messages
            .map(|it| serde_json::from_str::<Value>(it["message"].as_str().unwrap()).unwrap());
        let sent = messages.filter(|it| it["message"]["method"] == "Network.requestWillBeSent");
        sent.map(|it| it["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
