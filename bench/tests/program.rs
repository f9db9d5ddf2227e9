//! The program as people run it: the echo is started, and measured by a second process.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_centaur-bench");

/// The echo as a process of its own; ends with the test.
struct Echo {
    child: Child,
    place: Value,
}

impl Echo {
    fn start() -> Self {
        let mut child =
            Command::new(PROGRAM).arg("echo").stdout(Stdio::piped()).spawn().expect("the echo can be started");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("output")).read_line(&mut line).expect("a line");
        Self { child, place: serde_json::from_str(&line).expect("a line of JSON") }
    }

    fn load(&self, arguments: &[&str]) -> Output {
        let endpoint = self.place["address"].as_str().expect("an address");
        let pid = self.place["pid"].to_string();
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["--endpoint", endpoint, "--pid", &pid, "--messages", "2000"]);
        command.output().expect("the load can be started")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_echo_is_measured_as_json() {
    let echo = Echo::start();
    assert_eq!(echo.place["pid"].as_u64(), Some(u64::from(echo.child.id())));
    let output = echo.load(&["send", "--shape", "echo", "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["scenario"], "echo");
    assert_eq!(report["errors"], 0);
    assert!(report["server"]["cpu_per_million"].as_f64().is_some_and(|cpu| cpu > 0.0), "{report}");
    assert!(report["server"]["resident_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{report}");
}

#[test]
fn a_load_that_cannot_run_says_why_and_fails() {
    let echo = Echo::start();
    let output = echo.load(&["receive"]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("error: ") && error.contains("SendMessage only"), "{error}");
}

#[test]
fn a_wrong_number_is_refused_before_any_load() {
    let output = Command::new(PROGRAM).args(["send", "--endpoint", "127.0.0.1:1", "--in-flight", "0"]).output();
    let output = output.expect("the program can be started");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--in-flight"));
}
