//! `weir top` on a terminal: a pty of 80 by 24, and a model of what a terminal makes of what is written to it.

use super::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// As much of a terminal as `weir top` makes use of.
struct Terminal {
    child: Child,
    keys: File,
    written: Receiver<Vec<u8>>,
    cells: Vec<Vec<char>>,
    /// Line and column.
    at: (usize, usize),
    /// The beginning of what is not read to its end yet.
    rest: String,
    bytes: Vec<u8>,
}

impl Terminal {
    fn start(arguments: &[&str]) -> Terminal {
        let size = nix::pty::Winsize {
            ws_row: HEIGHT as u16,
            ws_col: WIDTH as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(&size, None).unwrap();
        let end = || Stdio::from(pty.slave.as_fd().try_clone_to_owned().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let mut reader = File::from(pty.master.try_clone().unwrap());
        let (sender, written) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // At the end of the last process that has the other side: EIO.
            while let Ok(count) = reader.read(&mut bytes)
                && count > 0
            {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            child,
            keys: pty.master.into(),
            written,
            cells: vec![vec![' '; WIDTH]; HEIGHT],
            at: (0, 0),
            rest: String::new(),
            bytes: Vec::new(),
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn lines(&self) -> Vec<String> {
        let lines = self
            .cells
            .iter()
            .map(|line| line.iter().collect::<String>());
        lines.map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the screen is as it should be.
    fn wait(&mut self, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let lines = self.lines();
            if is_so(&lines) {
                return lines;
            }
            assert!(Instant::now() < end, "{what}: {lines:#?}");
            if let Ok(bytes) = self.written.recv_timeout(Duration::from_millis(200)) {
                self.take(&bytes);
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Of a letter in several bytes some may come later.
        let whole = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.len(),
            Err(why) => why.valid_up_to(),
        };
        let text: Vec<u8> = self.bytes.drain(..whole).collect();
        self.rest.push_str(&String::from_utf8(text).unwrap());
        while let Some(first) = self.rest.chars().next() {
            let used = match first {
                '\u{1b}' => match self.sequence() {
                    Some(used) => used,
                    None => return,
                },
                '\r' => {
                    self.at.1 = 0;
                    1
                }
                '\n' => {
                    self.at.0 += 1;
                    1
                }
                letter => {
                    let (line, column) = self.at;
                    assert!(
                        line < HEIGHT && column < WIDTH,
                        "{letter:?} at {:?}",
                        self.at
                    );
                    self.cells[line][column] = letter;
                    self.at.1 += 1;
                    letter.len_utf8()
                }
            };
            self.rest.drain(..used);
        }
    }

    /// Obeys an escape sequence. Returns its bytes; none: it has not come to its end.
    fn sequence(&mut self) -> Option<usize> {
        let Some(body) = self.rest.strip_prefix("\u{1b}[") else {
            // Of one letter.
            return (self.rest.len() >= 2).then_some(2);
        };
        let end = body.find(|letter: char| letter.is_ascii_alphabetic())?;
        let numbers: Vec<usize> = body[..end]
            .split(';')
            .map(|it| it.parse().unwrap_or(1))
            .collect();
        match body.as_bytes()[end] {
            b'H' => {
                let number = |n: usize| numbers.get(n).map_or(0, |number| number - 1);
                self.at = (number(0), number(1));
            }
            b'J' => self.cells = vec![vec![' '; WIDTH]; HEIGHT],
            b'G' => self.at.1 = numbers[0] - 1,
            b'C' => self.at.1 += numbers[0],
            _ => {}
        }
        Some(2 + end + 1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_on_a_terminal_of_80_by_24() {
    let lab = Lab::new();
    // Names that only differ in the middle, more of them than there are lines.
    let mut config = lab.config("", 3);
    for n in 0..30 {
        config += &format!(
            r#"
            [[service]]
            name = "shop-production-eu-{n:02}-frontend-blue-https"
            address = "192.0.2.{}"
            port = 10443
            protocol = "tcp"
            mode = "nat"
            [[service.real]]
            address = "10.0.0.{}"
            "#,
            100 + n,
            100 + n
        );
    }
    lab.receives("wan", &syns(40));
    let daemon = Daemon::start(&lab, &config);
    let mut terminal = Terminal::start(&["top", "--api", &lab.api(), "--interval", "300ms"]);
    let has = |lines: &[String], text: &str| lines.iter().any(|line| line.contains(text));
    let lines = terminal.wait("the services", |lines| {
        has(lines, "services 32") && lines[23].starts_with("Enter real servers")
    });
    let rows: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(":10443 "))
        .collect();
    let names: HashSet<_> = rows.iter().map(|line| line.split(" tcp:").next()).collect();
    assert!(rows.len() >= 5, "{lines:#?}");
    assert_eq!(names.len(), rows.len(), "{lines:#?}");

    terminal.press("?");
    terminal.wait("help", |lines| {
        lines[0] == "Keys" && has(lines, "sort the other way round")
    });
    terminal.press("?");
    terminal.press("/eu-17\r");
    terminal.wait("one service", |lines| {
        has(lines, "services 1 of 32") && has(lines, "1 of 1: shop-production-eu-17-frontend")
    });
    // Those of the file, which are read as anything but letters where they are not letters.
    terminal.press("\u{1b}");
    terminal.wait("all services", |lines| has(lines, "services 32"));
    terminal.press("/web\r\r");
    let lines = terminal.wait("its real servers", |lines| {
        lines[0] == "web" && has(lines, "10.0.0.11:8080 ") && has(lines, "10.0.0.12:8080 ")
    });
    assert!(
        lines[1].starts_with("tcp:192.0.2.80:80   fullnat   wrr   2 of 2 up"),
        "{lines:#?}"
    );
    // What is said of a real server meanwhile is seen.
    daemon.tool(&["drain", "web", "10.0.0.12:8080"]);
    let is_drained = |line: &String| line.starts_with("10.0.0.12:8080") && line.contains("drained");
    terminal.wait("a drained one", |lines| lines.iter().any(is_drained));
    terminal.press("\u{1b}");
    terminal.wait("the services again", |lines| {
        lines[0].starts_with("weir at ")
    });
    terminal.press("q");
    let end = Instant::now() + Duration::from_secs(30);
    while terminal.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < end, "q ends it");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(terminal.child.wait().unwrap().success());

    // The same for scripts.
    let output = daemon.tool(&[
        "top",
        "--once",
        "--json",
        "--interval",
        "100ms",
        "--filter",
        "web",
    ]);
    let look: Value = serde_json::from_slice(&output.stdout).unwrap();
    let services = look["services"].as_array().unwrap();
    assert_eq!(services.len(), 1, "{look}");
    assert_eq!(services[0]["reals"][1]["state"], "drained", "{look}");
    let output = daemon.tool(&["top", "--once", "--interval", "100ms", "--sort", "service"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("shop-"))
        .collect();
    assert_eq!(names.len(), 30, "{text}");
    assert!(names.is_sorted(), "{text}");
    let text = refused(&daemon.tool(&["top", "--once", "--sort", "weather"]));
    assert!(
        text.contains("there is no such column, but: service, virtual,"),
        "{text}"
    );
    daemon.stop();
}
