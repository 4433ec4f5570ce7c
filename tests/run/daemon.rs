//! A daemon under test: started in a directory of its own, asked with a deadline, and gone at the end whatever happens.

use super::frames;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The directory of a daemon, with its captures and its socket.
pub struct Lab(TempDir);

impl Lab {
    /// Both ports receive nothing.
    pub fn new() -> Lab {
        let lab = Lab(TempDir::new().unwrap());
        lab.receives("wan", &[]);
        lab.receives("lan", &[]);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// What a port is to receive, once.
    pub fn receives(&self, port: &str, frames: &[Vec<u8>]) {
        fs::write(
            self.path(&format!("{port}.in.pcap")),
            frames::capture(frames),
        )
        .unwrap();
    }

    /// What a port has sent.
    pub fn sent(&self, port: &str) -> Vec<Vec<u8>> {
        frames::frames(&fs::read(self.path(&format!("{port}.out.pcap"))).unwrap())
    }

    pub fn api(&self) -> String {
        format!("unix:{}", self.path("weir.sock").display())
    }

    /// Two ports, a fullnat service with real servers of the weights `weight` and 1, a nat service whose real server
    /// does not answer.
    pub fn config(&self, top: &str, weight: u16) -> String {
        let cpus = weir::command::cpus();
        let (first, last) = (cpus[0], cpus[cpus.len() - 1]);
        let directory = self.0.path().display();
        let api = self.api();
        format!(
            r#"{top}
            [dpdk]
            workers = [{last}]
            main_lcore = {first}
            hugepages = "never"
            idle = "adaptive"
            [api]
            listen = ""
            control = "{api}"
            [limits]
            connections = 10000
            [[port]]
            name = "wan"
            device = "net_pcap0,rx_pcap={directory}/wan.in.pcap,tx_pcap={directory}/wan.out.pcap"
            addresses = ["198.51.100.1/24"]
            mac = "02:00:00:00:00:01"
            [[port]]
            name = "lan"
            device = "net_pcap1,rx_pcap={directory}/lan.in.pcap,tx_pcap={directory}/lan.out.pcap"
            addresses = ["10.0.0.1/24"]
            mac = "02:00:00:00:00:02"
            [[route]]
            to = "0.0.0.0/0"
            via = "198.51.100.254"
            [[neighbour]]
            address = "10.0.0.11"
            mac = "02:00:00:00:01:0b"
            [[neighbour]]
            address = "10.0.0.12"
            mac = "02:00:00:00:01:0c"
            [[local_pool]]
            name = "inside"
            addresses = ["10.0.0.200"]
            [[service]]
            name = "web"
            address = "192.0.2.80"
            port = 80
            protocol = "tcp"
            mode = "fullnat"
            local_pool = "inside"
            scheduler = "wrr"
            [[service.real]]
            address = "10.0.0.11"
            port = 8080
            weight = {weight}
            [[service.real]]
            address = "10.0.0.12"
            port = 8080
            [[service]]
            address = "192.0.2.81"
            port = 80
            protocol = "tcp"
            mode = "nat"
            [[service.real]]
            address = "10.0.0.99"
            "#
        )
    }

    /// Runs a daemon that does not start.
    pub fn run(&self, config: &str) -> Output {
        let path = self.write("lb.toml", config);
        weir(&["run", "--config", path.to_str().unwrap()])
    }

    /// Runs a daemon that does not start, since it may not have more address space than this.
    pub fn run_with_address_space(&self, config: &str, bytes: u64) -> Output {
        let path = self.write("lb.toml", config);
        let mut shell = Command::new("sh");
        // In units of 1024 bytes (dash, bash).
        shell.args([
            "-c",
            "ulimit -v \"$0\" && exec \"$@\"",
            &(bytes >> 10).to_string(),
        ]);
        shell.arg(env!("CARGO_BIN_EXE_weir"));
        ended(shell.arg("run").arg("--config").arg(path))
    }
}

/// Runs a command of weir to its end.
pub fn weir(arguments: &[&str]) -> Output {
    ended(Command::new(env!("CARGO_BIN_EXE_weir")).args(arguments))
}

/// Runs a command of weir to its end, with these streams.
pub fn weir_into(arguments: &[&str], stdout: Stdio, stderr: Stdio) -> ExitStatus {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_remove("WEIR_API");
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    Guard(command.spawn().unwrap()).end()
}

/// Runs a command to its end.
fn ended(command: &mut Command) -> Output {
    let mut outputs = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    let [stdout, stderr] = [0, 1].map(|n| Stdio::from(outputs[n].try_clone().unwrap()));
    let child = command
        .env_remove("WEIR_API")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap();
    let status = Guard(child).end();
    let [stdout, stderr] = outputs.each_mut().map(|file| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    });
    Output {
        status,
        stdout,
        stderr,
    }
}

/// What a command that ended with 1 said on stderr.
pub fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A process that does not outlive its test.
struct Guard(Child);

impl Guard {
    /// Waits until it has ended by itself.
    fn end(mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end");
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn weir_command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weir"))
}

/// A running daemon.
pub struct Daemon {
    process: Guard,
    api: String,
    log: PathBuf,
}

impl Daemon {
    pub fn start(lab: &Lab, config: &str) -> Daemon {
        Self::start_at(lab, config, &lab.api())
    }

    /// `api`: as the configuration says it.
    pub fn start_at(lab: &Lab, config: &str, api: &str) -> Daemon {
        let log = File::create(lab.path("log")).unwrap();
        let mut daemon = Self::spawn(weir_command(), lab, config, api, log.into());
        daemon.wait_until(|daemon| daemon.log().contains(" ready\n"));
        daemon
    }

    /// In a network namespace of its own, for companions, which a shell's commands prepare. Only root can make one.
    pub fn start_in_namespace(lab: &Lab, config: &str, commands: &str) -> Daemon {
        let log = File::create(lab.path("log")).unwrap();
        let mut command = Command::new("unshare");
        command
            .args(["--net", "sh", "-e", "-c"])
            .arg(format!("{commands}\nexec \"$0\" \"$@\""))
            .arg(env!("CARGO_BIN_EXE_weir"));
        let mut daemon = Self::spawn(command, lab, config, &lab.api(), log.into());
        daemon.wait_until(|daemon| daemon.log().contains(" ready\n"));
        daemon
    }

    /// Its log is not the test's to read.
    pub fn start_with_log(lab: &Lab, config: &str, stderr: Stdio) -> Daemon {
        lab.write("log", "");
        let mut daemon = Self::spawn(weir_command(), lab, config, &lab.api(), stderr);
        daemon.wait_until(|daemon| {
            let socket = daemon.api.strip_prefix("unix:").unwrap();
            UnixStream::connect(socket).is_ok()
        });
        daemon
    }

    fn spawn(mut command: Command, lab: &Lab, config: &str, api: &str, stderr: Stdio) -> Daemon {
        let (file, log) = (lab.write("lb.toml", config), lab.path("log"));
        command
            .arg("run")
            .arg("--config")
            .arg(file)
            .env("RUST_LOG", "info");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let process = Guard(command.spawn().unwrap());
        Daemon {
            process,
            api: api.to_owned(),
            log,
        }
    }

    fn wait_until(&mut self, is_ready: impl Fn(&Daemon) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is_ready(self) {
            let ended = self.process.0.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < end,
                "{ended:?}: {}",
                self.log()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// The memory that it uses.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.0.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().nth(1));
        size.and_then(|size| size.parse().ok()).unwrap()
    }

    /// Pages that the kernel had to give so far.
    pub fn page_faults(&self) -> u64 {
        let path = format!("/proc/{}/stat", self.process.0.id());
        let stat = std::fs::read_to_string(path).unwrap();
        // Behind the name, which may have blanks, `minflt` is the eighth.
        let behind = stat.rsplit(") ").next();
        let faults = behind.and_then(|behind| behind.split(' ').nth(7));
        faults.and_then(|faults| faults.parse().ok()).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Looks until there is something.
    pub fn wait<T>(&self, mut look: impl FnMut(&Daemon) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(
                Instant::now() < end,
                "{}\n{}",
                self.get("/metrics"),
                self.log()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Sends an HTTP request as it is: status and body.
    pub fn request(&self, request: &str) -> (u16, String) {
        let mut text = String::new();
        match self.api.strip_prefix("unix:") {
            Some(path) => {
                let mut stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // It may be refused before all of it is read.
                let _ = stream.write_all(request.as_bytes());
                stream.read_to_string(&mut text).unwrap();
            }
            None => {
                let mut stream = TcpStream::connect(&self.api).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(request.as_bytes()).unwrap();
                stream.read_to_string(&mut text).unwrap();
            }
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    /// The body of a page that is there.
    pub fn get(&self, path: &str) -> String {
        let (status, body) = self.request(&format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Runs a tool against this daemon.
    pub fn tool(&self, arguments: &[&str]) -> Output {
        weir(&[arguments, &["--api", &self.api]].concat())
    }

    fn shown(&self, arguments: &[&str]) -> String {
        let output = self.tool(&[&["show"], arguments].concat());
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// `weir show … --json`
    pub fn show(&self, what: &str) -> Value {
        serde_json::from_str(&self.shown(&[what, "--json"])).unwrap()
    }

    pub fn table(&self, what: &str) -> String {
        self.shown(&[what])
    }

    /// Has something go wrong or take its time (src/control/inject.rs). Debug builds only.
    pub fn inject(&self, place: &str) -> (u16, String) {
        let request = format!("POST /v1/inject?in={place} HTTP/1.0\r\ncontent-length: 0\r\n\r\n");
        self.request(&request)
    }

    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    pub fn signal(&self, name: &str) {
        let process = self.process.0.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &process])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub fn stop(self) {
        self.stop_by("TERM");
    }

    /// Ends it by a signal, however.
    pub fn end(self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.process.end()
    }

    /// Ends it by a signal: cleanly.
    pub fn stop_by(self, signal: &str) {
        self.signal(signal);
        let Daemon { process, log, .. } = self;
        let status = process.end();
        let log = std::fs::read_to_string(log).unwrap();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(
            log.contains(&format!("SIG{signal}: stopping")) && log.contains(": stopped\n"),
            "{log}"
        );
    }
}
