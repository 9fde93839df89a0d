//! Chromium without a window, in a lab, driven over `WebDriver` (W3C) by its own driver.
//!
//! **Invariant**: does what a user could do and reads what the browser itself says: its console, the
//! requests it made, the pixels it drew. It asks nobody outside the lab, whose default route leads
//! nowhere, and it ends with the value.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use ureq::http::Request;
use xtask::lab::Lab;

/// Where the driver listens, in the lab's own namespace.
const DRIVER: &str = "http://127.0.0.1:9515";

/// How long the driver may take to come, and to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keys, as `WebDriver` numbers them.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";

/// A browser with one window.
pub(crate) struct Browser<'a> {
    lab: &'a Lab,
    driver: Child,
    session: String,
}

impl<'a> Browser<'a> {
    /// Starts one that keeps its files in this folder.
    pub(crate) fn open(lab: &'a Lab, folder: &Path) -> Self {
        let driver = lab
            .command_inside("chromedriver")
            .arg("--port=9515")
            // No proxy and no settings of this machine's.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", folder)
            .env("LANG", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`cargo xtask setup` brings chromedriver");
        let mut browser = Self { lab, driver, session: String::new() };
        let begun = Instant::now();
        while browser.try_call("GET", "/status", &Value::Null).is_err() {
            assert!(begun.elapsed() < PATIENCE, "chromedriver does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let profile = format!("--user-data-dir={}", folder.join("profile").display());
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--no-proxy-server", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--window-size=1280,1000",
                profile,
            ] },
        } } });
        let session = browser.call("POST", "/session", &wanted);
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        // The browser's own first page is not what anybody wants to know about.
        browser.go("about:blank");
        browser.requests();
        browser.complaints();
        browser
    }

    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.order("/url", &json!({ "url": url }));
    }

    /// What a piece of script returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.order("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// The text of an element as it is shown; empty when it is not there.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let selector = json!(selector);
        let script = format!("return document.querySelector({selector})?.innerText ?? ''");
        self.run(&script).as_str().expect("a text").to_owned()
    }

    /// Presses with the mouse.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let found = json!({ "using": "css selector", "value": selector });
        let found = self.order("/element", &found);
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        self.order(&format!("/element/{}/click", id.expect("an element")), &json!({}));
    }

    /// Presses these keys, one after the other, wherever the focus is.
    #[track_caller]
    pub(crate) fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key })))
            .collect();
        let board = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.order("/actions", &json!({ "actions": [board] }));
    }

    /// What Chromium's own protocol offers beyond `WebDriver`.
    #[track_caller]
    pub(crate) fn chromium(&self, command: &str, parameters: &Value) -> Value {
        self.order("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Light or dark, as the system would say.
    #[track_caller]
    pub(crate) fn prefer(&self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.chromium("Emulation.setEmulatedMedia", &json!({ "features": [feature] }));
    }

    /// A screen of another size.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32, is_phone: bool) {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone,
        });
        self.chromium("Emulation.setDeviceMetricsOverride", &size);
    }

    /// The window as a PNG.
    #[track_caller]
    pub(crate) fn picture(&self) -> Vec<u8> {
        let shot = self.chromium("Page.captureScreenshot", &json!({ "format": "png" }));
        STANDARD.decode(shot["data"].as_str().expect("a picture")).unwrap()
    }

    /// What is in the console since it was last asked for: errors and warnings.
    #[track_caller]
    pub(crate) fn complaints(&self) -> Vec<String> {
        let lines = self.order("/se/log", &json!({ "type": "browser" }));
        let lines = lines.as_array().expect("lines").iter();
        lines
            .filter(|line| line["level"] != "INFO" && line["level"] != "DEBUG")
            .map(|line| format!("{} {}", line["level"], line["message"]))
            .collect()
    }

    /// The addresses that were asked since this was last asked for.
    #[track_caller]
    pub(crate) fn requests(&self) -> Vec<String> {
        let lines = self.order("/se/log", &json!({ "type": "performance" }));
        let lines = lines.as_array().expect("lines").iter();
        let messages = lines.filter_map(|line| line["message"].as_str());
        messages
            .map(|text| serde_json::from_str::<Value>(text).expect("a message"))
            .filter(|message| message["message"]["method"] == "Network.requestWillBeSent")
            .filter_map(|message| {
                Some(message["message"]["params"]["request"]["url"].as_str()?.to_owned())
            })
            .collect()
    }

    #[track_caller]
    fn order(&self, path: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}{path}", self.session), body)
    }

    #[track_caller]
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        match self.try_call(method, path, body) {
            Ok(value) => value,
            Err(error) => panic!("{method} {path} {body}: {error}"),
        }
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::builder().method(method).uri(format!("{DRIVER}{path}"));
        let answer = self.lab.run_inside(|| {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .proxy(None)
                .http_status_as_error(false)
                .timeout_global(Some(PATIENCE))
                .build()
                .into();
            let mut answer = if body.is_null() {
                agent.run(request.body(()).map_err(|error| error.to_string())?)
            } else {
                agent.run(request.body(body.to_string()).map_err(|error| error.to_string())?)
            }
            .map_err(|error| error.to_string())?;
            answer.body_mut().read_to_string().map_err(|error| error.to_string())
        });
        let answer = answer.map_err(|error| error.to_string())??;
        let mut answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].take()),
        }
    }
}

impl Drop for Browser<'_> {
    fn drop(&mut self) {
        // It takes the browser with it; what stays ends with the lab.
        if !self.session.is_empty() {
            let path = format!("/session/{}", self.session);
            let _gone = self.try_call("DELETE", &path, &Value::Null);
        }
        let _ended = self.driver.kill();
        let _reaped = self.driver.wait();
    }
}
