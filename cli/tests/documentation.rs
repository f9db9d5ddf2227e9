//! The commands in the documentation do what they are printed for.

mod harness;

use std::{path::Path, process::Command};

use harness::{BINARY, Options, Server, text, wait_until};
use serde_json::Value;

const COMMANDS: &str = include_str!("../../docs/commands.md");

/// The lines of all blocks of shell commands.
fn printed(page: &str) -> Vec<&str> {
    let blocks = page.split("```sh\n").skip(1);
    blocks.filter_map(|block| block.split("```").next()).flat_map(str::lines).collect()
}

/// What stands for itself in the documentation: the first of a list.
fn first(server: &Server, list: &[&str], names: [&str; 2]) -> String {
    let listed: Value = serde_json::from_str(&server.run(list)).expect("JSON");
    listed[names[0]][0][names[1]].as_str().unwrap_or_else(|| panic!("{listed}")).to_owned()
}

#[test]
fn commands_run_as_they_are_printed() {
    let server = Options::default().set("topics.auto_create", "true").start();
    let binaries = Path::new(BINARY).parent().expect("a folder");
    let lines = printed(COMMANDS);
    assert!(lines.len() > 30, "{lines:?}");
    for printed in lines {
        let mut line = printed.to_owned();
        if line.contains("HANDLE") {
            let handle = first(&server, &["message", "delayed", "-o", "json"], ["messages", "recall_handle"]);
            line = line.replace("HANDLE", &handle);
        }
        if line.contains(" ID ") {
            let id = first(&server, &["transaction", "list", "-o", "json"], ["transactions", "transaction_id"]);
            line = line.replace(" ID ", &format!(" {id} "));
        }
        if line.starts_with("centaur dlq") {
            wait_until("dead letters", || server.run(&["dlq", "list"]).contains("workers"));
        }
        let output = Command::new("sh")
            .args(["-c", &line])
            .env("PATH", std::env::join_paths([binaries, Path::new("/usr/bin"), Path::new("/bin")]).expect("a path"))
            .env("CENTAUR_ADDRESS", server.operators().to_string())
            .env("CENTAUR_ENDPOINT", server.clients().to_string())
            .output()
            .expect("a shell runs");
        assert!(output.status.success(), "{printed}: {}\n{}", output.status, text(&output.stderr));
        let is_silent = output.stdout.is_empty();
        assert!(!is_silent, "{printed}: nothing was printed\n{}", text(&output.stderr));
    }
}
