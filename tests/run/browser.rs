//! A headless Chromium, driven over a pipe by its DevTools protocol (Debian's package `chromium`).

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/bin/chromium";
/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Browser {
    process: Child,
    orders: ChildStdin,
    messages: Receiver<Value>,
    sent: u64,
    /// That of the one tab.
    session: Option<String>,
    /// What the browser has told without being asked.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    pub fn is_there() -> bool {
        Path::new(PROGRAM).exists()
    }

    /// With one empty tab.
    pub fn start() -> Browser {
        let profile = TempDir::new().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        // It reads orders from descriptor 3 and writes to 4.
        let piped = "exec 3<&0 4>&1 0</dev/null 1>/dev/null; exec \"$@\"";
        let mut process = Command::new("sh")
            .args(["-c", piped, "sh", PROGRAM, "--headless=new", "--no-sandbox"])
            .args(["--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--disable-extensions",
                "--lang=en-US",
                "--remote-debugging-pipe",
            ])
            .args([&folder, "about:blank"])
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let mut answers = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut text = Vec::new();
            while answers
                .read_until(0, &mut text)
                .is_ok_and(|length| length > 0)
            {
                text.pop();
                let message = serde_json::from_slice(&text).unwrap();
                if sender.send(message).is_err() {
                    break;
                }
                text.clear();
            }
        });
        let mut browser = Browser {
            orders: process.stdin.take().unwrap(),
            process,
            messages,
            sent: 0,
            session: None,
            events: Vec::new(),
            _profile: profile,
        };
        let tab = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": tab["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Has the browser do something, and returns what it answers.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut order = json!({ "id": self.sent, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        let order = [order.to_string().as_bytes(), b"\0"].concat();
        self.orders.write_all(&order).unwrap();
        loop {
            let message = self.messages.recv_timeout(PATIENCE);
            let message = message.unwrap_or_else(|why| panic!("{method}: {why}"));
            if message["id"] == self.sent {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    pub fn open(&mut self, address: &str) {
        let opened = self.call("Page.navigate", json!({ "url": address }));
        assert!(opened["errorText"].is_null(), "{opened}");
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", asked);
        let wrong = &answer["exceptionDetails"];
        assert!(wrong.is_null(), "{expression}: {wrong}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page; what it asks for may not be there yet.
    pub fn wait(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        let tried =
            format!("(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()");
        while self.value(&tried) != true {
            if Instant::now() > end {
                let text = self.value("document.body?.innerText");
                panic!(
                    "{expression} is not so:\n{}",
                    text.as_str().unwrap_or_default()
                );
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Presses the button of this name, once it is there.
    pub fn press(&mut self, name: &str) {
        let found = format!(
            "[...document.querySelectorAll('button')].find((it) => (it.getAttribute('aria-label') || it.textContent).trim() === {name:?})"
        );
        self.wait(&found);
        self.value(&format!("{found}.click()"));
    }

    /// A key as a hand presses it.
    pub fn key(&mut self, key: &str, code: u32) {
        let text = match key {
            "Enter" => "\r",
            one if one.chars().count() == 1 => one,
            _ => "",
        };
        for kind in ["keyDown", "keyUp"] {
            let mut press = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                press["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", press);
        }
    }

    /// Types a text where the focus is.
    pub fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Width and height of what is shown, in pixels; and whether the system is a dark one.
    pub fn set_screen(&mut self, width: u32, height: u32, is_dark: bool) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    /// Keeps a picture in the folder that `WEIR_SCREENSHOTS` names, for who wants to look.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("WEIR_SCREENSHOTS") else {
            return;
        };
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let data = base64::Engine::decode(
            &base64::engine::general_purpose::STANDARD,
            shot["data"].as_str().unwrap(),
        );
        let path = Path::new(&folder).join(format!("{name}.png"));
        std::fs::write(path, data.unwrap()).unwrap();
    }

    /// Everything that the page has asked for.
    pub fn requests(&self) -> Vec<String> {
        let asked = self.events.iter();
        let asked = asked.filter(|it| it["method"] == "Network.requestWillBeSent");
        let text = |it: &Value| it["params"]["request"]["url"].as_str().unwrap().to_owned();
        asked.map(text).collect()
    }

    /// What the console shows as an error or a warning since the last call: of scripts, of the policy, of requests.
    pub fn complaints(&mut self) -> Vec<Value> {
        // What came meanwhile is taken in.
        self.value("0");
        let (complaints, rest) = std::mem::take(&mut self.events)
            .into_iter()
            .partition(|it| {
                let what = &it["params"];
                match it["method"].as_str().unwrap_or_default() {
                    "Runtime.exceptionThrown" => true,
                    "Runtime.consoleAPICalled" => {
                        what["type"] == "error" || what["type"] == "warning"
                    }
                    "Log.entryAdded" => {
                        what["entry"]["level"] == "error" || what["entry"]["level"] == "warning"
                    }
                    _ => false,
                }
            });
        self.events = rest;
        complaints
    }

    /// What a screen reader is told of the page: role and name of each element.
    pub fn told(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let nodes = nodes.filter(|node| node["ignored"] != true);
        let text = |value: &Value| {
            value["value"]
                .as_str()
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        nodes
            .map(|node| (text(&node["role"]), text(&node["name"])))
            .collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It has processes of its own.
        if let Some(group) = rustix::process::Pid::from_raw(self.process.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.process.wait();
    }
}
