//! The processes of a comparison: started on free loopback ports, gone when dropped.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time,
};

use crate::{client, process::Processes, requests::Run};

const START_MAX: Duration = Duration::from_secs(30);
const START_PERIOD: Duration = Duration::from_micros(500);
/// A server that has just started is left alone for so long before its memory counts as idle.
const SETTLE: Duration = Duration::from_secs(1);
const LOG_LINES: usize = 20;

/// One running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) pid: u32,
    pub(crate) endpoint: String,
    /// The operators' port, as host:port; none for the echo.
    pub(crate) operators: Option<String>,
    /// Where it keeps its data; none for the echo.
    directory: Option<TempDir>,
}

/// How servers are started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    /// Data directories are made in here.
    pub(crate) directory: PathBuf,
    /// Settings beyond those the comparison needs, each as key=value.
    pub(crate) settings: Vec<String>,
}

/// What a start cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    pub(crate) first_ok: Duration,
    pub(crate) idle_bytes: u64,
}

/// What a server writes when it listens.
#[derive(Debug, Deserialize)]
struct Ports {
    pid: u32,
    clients: u16,
    operators: u16,
}

#[derive(Debug, Deserialize)]
struct Place {
    address: SocketAddr,
}

impl Server {
    /// Starts the echo of this program.
    pub(crate) async fn echo() -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.arg("echo").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the echo cannot be started")?;
        let stdout = child.stdout.take().context("the echo has no output")?;
        let line = BufReader::new(stdout).lines().next_line().await?.context("the echo ended at once")?;
        let Place { address } = serde_json::from_str(&line)?;
        let pid = child.id().context("the echo ended at once")?;
        Ok(Self { child, pid, endpoint: address.to_string(), operators: None, directory: None })
    }

    /// The time from starting a server on an empty directory to its first `OK` for a message, and
    /// its memory when nothing happens.
    pub(crate) async fn start_cost(launch: &Launch) -> Result<Start> {
        let started = Instant::now();
        let server = launch.start("async").await?;
        server.first_ok().await?;
        let first_ok = started.elapsed();
        time::sleep(SETTLE).await;
        let idle_bytes = Processes::new(vec![server.pid]).usage()?.resident_bytes;
        server.kill().await?;
        Ok(Start { first_ok, idle_bytes })
    }

    /// Sends one message, as a client that knows nothing yet.
    pub(crate) async fn first_ok(&self) -> Result<()> {
        let run = Run::begin();
        let mut connections = client::connect(&self.endpoint, 1, &run).await?;
        connections[0].queues("first").await?;
        connections[0].send(run.send("first", 1024, 1).numbered(0)).await
    }

    /// Kills the process at once and gives the directory it worked in.
    pub(crate) async fn kill(mut self) -> Result<TempDir> {
        self.child.kill().await?;
        self.directory.context("a server without a directory")
    }
}

impl Launch {
    /// Starts a server with an empty directory and waits until it listens.
    ///
    /// Errors: it ended, with the end of its log; or it did not listen in time.
    pub(crate) async fn start(&self, flush: &str) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("centaur-bench-").tempdir_in(&self.directory)?;
        self.start_in(directory, flush).await
    }

    /// The same with a directory in which a server may have been before.
    pub(crate) async fn start_in(&self, directory: TempDir, flush: &str) -> Result<Server> {
        let (data, log) = (directory.path().join("data"), directory.path().join("log"));
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--dev", "--data-dir"]).arg(&data);
        let flush = format!("store.flush={flush}");
        for setting in ["proxy.listen=127.0.0.1:0", "operators.listen=127.0.0.1:0", &flush] {
            command.args(["--set", setting]);
        }
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?).kill_on_drop(true);
        let what = self.binary.display();
        let mut child = command.spawn().with_context(|| format!("{what} cannot be started"))?;
        let ports = listening(&mut child, &data, &log).await.with_context(|| format!("{what} did not start"))?;
        let Ports { pid, clients, operators } = ports;
        let (endpoint, operators) = (format!("127.0.0.1:{clients}"), Some(format!("127.0.0.1:{operators}")));
        Ok(Server { child, pid, endpoint, operators, directory: Some(directory) })
    }
}

async fn listening(child: &mut Child, data: &Path, log: &Path) -> Result<Ports> {
    let path = data.join("run/ports.json");
    let started = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(&path) {
            let ports: Ports = serde_json::from_str(&text)?;
            // A server that was killed leaves its file behind.
            if Some(ports.pid) == child.id() {
                return Ok(ports);
            }
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}:\n{}", tail(log));
        }
        if started.elapsed() > START_MAX {
            bail!("it did not listen within {} s:\n{}", START_MAX.as_secs(), tail(log));
        }
        time::sleep(START_PERIOD).await;
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
