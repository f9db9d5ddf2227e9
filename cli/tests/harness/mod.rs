//! Starts the real binary on free loopback ports with its own data directory, waits until it is
//! ready, and ends it by its own pid.
//!
//! ```ignore
//! mod harness;
//! use harness::Server;
//!
//! let mut server = Server::start();                  // ready when this returns
//! let channel = server.channel().await;              // gRPC to the client port
//! let output = server.centaur(&["topic", "create", "orders"]);
//! server.kill();                                     // SIGKILL, like a crash
//! server.restart();                                  // the same directory, the same ports
//! assert_eq!(server.stop().code(), Some(0));         // SIGTERM, drained
//! ```
//!
//! Waiting blocks the thread: tests with gRPC clients need `#[tokio::test(flavor = "multi_thread")]`.
//! A server that is dropped is killed, and its directory removed. When a test fails, its log is
//! printed with the failure.

// Each test binary uses its own part of this.
#![allow(dead_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_centaur");
/// Longest wait for anything; a failure, never a duration to rely on.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A running server.
pub struct Server {
    child: Option<Child>,
    arguments: Vec<String>,
    data: TempDir,
    ports: Ports,
}

/// Where a server listens, on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub clients: u16,
    pub operators: u16,
}

/// How a server is to be started.
#[derive(Default)]
pub struct Options {
    arguments: Vec<String>,
}

impl Options {
    /// Adds arguments of `centaur serve`.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Sets a key of the configuration.
    pub fn set(self, key: &str, value: &str) -> Self {
        self.with(&["--set", &format!("{key}={value}")])
    }

    /// Starts the server; it is ready when this returns.
    pub fn start(self) -> Server {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut server =
            Server { child: None, arguments: self.arguments, data, ports: Ports { clients: 0, operators: 0 } };
        server.spawn();
        server
    }
}

impl Server {
    /// Starts a server with defaults.
    pub fn start() -> Self {
        Options::default().start()
    }

    /// The directory of everything durable.
    pub fn data_dir(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Where it listens; the same after a restart.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// `127.0.0.1:port` for clients.
    pub fn clients(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.clients).into()
    }

    /// `127.0.0.1:port` for operators.
    pub fn operators(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.operators).into()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// A new plaintext gRPC connection to the client port.
    pub async fn channel(&self) -> Channel {
        connect(self.clients()).await
    }

    /// A new gRPC connection to the operators' port.
    pub async fn admin_channel(&self) -> Channel {
        connect(self.operators()).await
    }

    /// Runs a command of the binary against this server.
    pub fn centaur(&self, arguments: &[&str]) -> Output {
        command(arguments)
            .env("CENTAUR_ADDRESS", self.operators().to_string())
            .env("CENTAUR_ENDPOINT", self.clients().to_string())
            .output()
            .expect("the binary runs")
    }

    /// Runs a command that must succeed; gives its standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.centaur(arguments);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "centaur {arguments:?}: {}\n{stdout}\n{stderr}", output.status);
        stdout
    }

    /// GET from the operators' port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        get(self.operators(), path).expect("the operators' port answers")
    }

    /// Everything logged so far, over all starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until a line with this text was logged.
    pub fn wait_for_log(&self, wanted: &str) {
        wait_until(&format!("{wanted:?} in the log"), || self.log().contains(wanted));
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends a signal by name, such as `TERM`, to the server's own pid.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success(), "kill: {status}");
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("the child is ours");
        }
        self.wait();
    }

    /// Waits for the end of a server that was told to stop.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().expect("the child is ours");
                panic!("the server does not end; its log:\n{}", self.log());
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Starts again on the same directory and ports; ready when this returns.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "stop or kill it first");
        self.spawn();
    }

    fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let listen = |port: u16| format!("127.0.0.1:{port}");
        let child = command(&["serve", "--log-format", "json", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen", &listen(self.ports.clients), "--operators-listen", &listen(self.ports.operators)])
            // Nobody balances over one server; what a test sets itself counts.
            .args(["--set", "shutdown.notice=0s"])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("the binary starts"));
        self.wait_until_ready();
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // After a restart they are known, and on a full disk nobody can write them down.
            let known = (self.ports.clients != 0).then_some(self.ports);
            if let Some(ports) = self.read_ports().or(known) {
                let operators = ([127, 0, 0, 1], ports.operators).into();
                if get(operators, "/readyz").is_some_and(|(status, _)| status == 200) {
                    self.ports = ports;
                    return;
                }
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("the child is ours"));
            assert!(ended.is_none(), "the server ended with {ended:?}; its log:\n{}", self.log());
            assert!(Instant::now() < deadline, "the server does not get ready; its log:\n{}", self.log());
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The ports of this very process; a file left by a killed one does not count.
    fn read_ports(&self) -> Option<Ports> {
        let text = fs::read_to_string(self.data_dir().join("run/ports.json")).ok()?;
        let json: serde_json::Value = serde_json::from_str(&text).ok()?;
        let port = |name: &str| json[name].as_u64().and_then(|port| u16::try_from(port).ok());
        (json["pid"] == self.pid()).then_some(Ports { clients: port("clients")?, operators: port("operators")? })
    }

    fn log_path(&self) -> PathBuf {
        self.data.path().join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if thread::panicking() {
            eprintln!("log of the server:\n{}", self.log());
        }
    }
}

/// The binary with these arguments, in an environment without settings and an empty directory.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(std::env::temp_dir());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CENTAUR_")) {
        command.env_remove(name);
    }
    command
}

/// Runs a server that must not come up; gives what it said.
pub fn refused(data_dir: &Path, arguments: &[&str]) -> Output {
    let ports = ["--listen", "127.0.0.1:0", "--operators-listen", "127.0.0.1:0"];
    let mut child = command(&["serve"])
        .args(ports)
        .arg("--data-dir")
        .arg(data_dir)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("the child is ours").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("the child is ours");
        }
        thread::sleep(LOOK_INTERVAL);
    }
    child.wait_with_output().expect("the child is ours")
}

/// Bytes of an output as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A plaintext gRPC connection.
pub async fn connect(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    endpoint.connect().await.expect("the server takes the connection")
}

/// GET over HTTP/1: status and body; `None` when nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

/// Waits for what takes a while; fails with `what` when it does not come.
pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Waits for a condition; fails with `what` when it does not come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(LOOK_INTERVAL);
    }
}
