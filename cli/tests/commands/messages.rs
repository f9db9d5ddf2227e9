//! Messages: sent, consumed, looked at, and those that wait for their time.

use super::*;

#[test]
fn what_is_produced_is_consumed_with_everything_on_it() {
    let server = Server::start();
    server.run(&["topic", "create", "orders"]);
    let sent = server.run(&[
        "produce",
        "orders",
        "--body",
        "größe",
        "--key",
        "k1",
        "--key",
        "k2",
        "--tag",
        "paid",
        "--property",
        "shop=north",
        "-o",
        "json",
    ]);
    let id = lines(&sent)[0]["id"].clone();
    let received = lines(&server.run(&["consume", "orders", "--group", "g", "--count", "1", "-o", "json"]));
    let message = &received[0];
    assert_eq!(message["id"], id);
    assert_eq!(message["body"], "größe");
    assert_eq!(message["tag"], "paid");
    assert_eq!(message["keys"], serde_json::json!(["k1", "k2"]));
    assert_eq!(message["properties"]["shop"], "north");
    assert_eq!(message["attempt"], 1);
    let again = server.run(&["consume", "orders", "--group", "g", "--wait", "300ms"]);
    assert_eq!(again, "", "it was acknowledged");
}

#[test]
fn a_condition_chooses_what_is_consumed() {
    let server = Server::start();
    server.run(&["topic", "create", "choice", "--queues", "1"]);
    for shop in ["north", "south"] {
        server.run(&["produce", "choice", "--body", shop, "--property", &format!("shop={shop}")]);
    }
    let chosen = server.run(&["consume", "choice", "--group", "g", "--sql", "shop IN ('south')", "--count", "1"]);
    assert_eq!(chosen, "south\n");
}

#[test]
fn lines_of_standard_input_become_messages_in_order() {
    let server = Server::start();
    server.run(&["topic", "create", "lines", "--queues", "1"]);
    let mut produce = command(&["produce", "lines", "-e", &server.clients().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut stdin = produce.stdin.take().expect("piped");
    stdin.write_all(b"one\n\ntwo\nthree").expect("written");
    drop(stdin);
    assert!(produce.wait().expect("ours").success());
    assert_eq!(server.run(&["consume", "lines", "--group", "g", "--count", "3"]), "one\ntwo\nthree\n");
}

#[test]
fn messages_are_found_without_consuming_them() {
    let server = Server::start();
    server.run(&["topic", "create", "orders", "--queues", "1"]);
    for body in ["a", "b", "c"] {
        server.run(&["produce", "orders", "--body", body, "--key", body]);
    }
    let list = |arguments: &[&str]| {
        let found = json(&server.run(&[&["message", "list", "orders", "-o", "json"], arguments].concat()));
        let messages = found["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["body"].as_str().unwrap_or_default().to_owned()).collect::<String>()
    };
    assert_eq!(list(&[]), "abc");
    assert_eq!(list(&["--key", "b"]), "b");
    assert_eq!(list(&["--from", "1h"]), "abc");
    assert_eq!(list(&["--queue", "0", "--offset", "1"]), "b");
    assert_eq!(list(&["--limit", "2"]), "ab");
    let found = json(&server.run(&["message", "list", "orders", "--key", "c", "-o", "json"]));
    let id = found["messages"][0]["id"].as_str().expect("an id").to_owned();
    let card = server.run(&["message", "get", &id, "--topic", "orders"]);
    assert!(card.contains(&id) && card.ends_with("\n\nc\n"), "{card}");
    assert_eq!(server.run(&["consume", "orders", "--group", "g", "--count", "3"]), "a\nb\nc\n");
}

#[test]
fn a_load_is_summed_up() {
    let server = Options::default().set("topics.auto_create", "true").start();
    let arguments = ["produce", "load", "--count", "500", "--size", "1KiB", "--concurrency", "16", "-o", "json"];
    let sent = lines(&server.run(&arguments));
    assert_eq!(sent.last().expect("a summary")["summary"]["messages"], 500);
    assert_eq!(sent.last().expect("a summary")["summary"]["bytes"], 500 * 1024);
    let received = lines(&server.run(&["consume", "load", "--group", "g", "--count", "500", "--quiet", "-o", "json"]));
    assert_eq!(received.last().expect("a summary")["summary"]["messages"], 500);
    assert!(received.last().expect("a summary")["summary"]["latency_ms"]["p99"].is_number());
}

#[test]
fn acknowledged_messages_survive_a_crash() {
    let mut server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    server.run(&["produce", "t", "--body", "kept"]);
    server.kill();
    server.restart();
    assert_eq!(server.run(&["consume", "t", "--group", "g", "--count", "1"]), "kept\n");
}

#[test]
fn bodies_reach_programs_as_they_are() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    let odd = "a\u{85}b\u{7f}\u{1b}[31m\r";
    server.run(&["produce", "t", "--body", odd, "--key", "odd"]);
    let id = json(&server.run(&["message", "list", "t", "-o", "json"]))["messages"][0]["id"].clone();
    let id = id.as_str().expect("an id");
    let found = json(&server.run(&["message", "get", id, "--topic", "t", "-o", "json"]));
    assert_eq!(found["body"], odd);
    let received = lines(&server.run(&["consume", "t", "--group", "g", "--count", "1", "-o", "json"]));
    assert_eq!(received[0]["body"], odd);
    assert_eq!(server.run(&["consume", "t", "--group", "h", "--count", "1"]), format!("{odd}\n"));
}

/// Longer than the server lets anybody wait for one answer.
#[test]
fn a_consumer_waits_as_long_as_it_was_told() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    let consumer = command(&[
        "consume",
        "t",
        "--group",
        "g",
        "--wait",
        "24s",
        "--count",
        "1",
        "-e",
        &server.clients().to_string(),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("the binary starts");
    std::thread::sleep(Duration::from_secs(21));
    server.run(&["produce", "t", "--body", "late"]);
    assert_eq!(text(&consumer.wait_with_output().expect("ended").stdout), "late\n");
}

#[test]
fn what_is_interrupted_is_not_called_done() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    let count = ["produce", "t", "--count", "100000", "--rate", "100", "-e"];
    let mut producer = command(&[&count[..], &[&server.clients().to_string()]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    wait_until("messages to come", || {
        json(&server.run(&["topic", "list", "-o", "json"]))["topics"][0]["messages"] != 0
    });
    let told = Command::new("kill").args(["-s", "INT", &producer.id().to_string()]).status().expect("kill runs");
    assert!(told.success());
    assert_eq!(producer.wait().expect("ours").code(), Some(8));
}

#[test]
fn delayed_messages_are_listed_and_taken_back() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--type", "delay", "--queues", "1"]);
    let send = |delay: &str| lines(&server.run(&["produce", "t", "--delay", delay, "--body", delay, "-o", "json"]));
    let (late, soon) = (send("2h"), send("1h"));
    let listed = || json(&server.run(&["message", "delayed", "--topic", "t", "-o", "json"]));
    let waiting = listed();
    assert_eq!(waiting["total"], 2);
    assert_eq!(waiting["messages"][0]["id"], soon[0]["id"], "the next due first");
    assert_eq!(waiting["messages"][0]["recall_handle"], soon[0]["recall_handle"]);
    let handle = soon[0]["recall_handle"].as_str().expect("a handle");
    for time in ["once", "and again"] {
        let recalled = json(&server.run(&["message", "recall", handle, "--topic", "t", "-o", "json"]));
        assert_eq!(recalled["id"], soon[0]["id"], "{time}");
    }
    let waiting = listed();
    assert_eq!((&waiting["total"], &waiting["messages"][0]["id"]), (&1.into(), &late[0]["id"]));
    let found = json(&server.run(&["message", "get", late[0]["id"].as_str().expect("an id"), "-t", "t", "-o", "json"]));
    assert_eq!((&found["body"], &found["offset"]), (&"2h".into(), &Value::Null), "it has no place yet");
    let loss = json(&server.run(&["topic", "delete", "t", "--dry-run", "-o", "json"]));
    assert_eq!(loss["messages"], 1, "what waits is lost as well");
    assert_eq!(exit_code(&server, &["message", "recall", "nonsense", "--topic", "t"]), Some(11));
    for delay in ["3h", "4h"] {
        send(delay);
    }
    let page = |arguments: &[&str]| {
        let page = json(&server.run(&[&["message", "delayed", "--limit", "2", "-o", "json"], arguments].concat()));
        (page["messages"].as_array().map(Vec::len), page["next"].clone())
    };
    let (count, next) = page(&[]);
    assert_eq!((count, page(&["--after", next.as_str().expect("a place")])), (Some(2), (Some(1), Value::Null)));
    let shown = server.centaur(&["message", "delayed", "--limit", "2"]);
    assert!(text(&shown.stderr).contains("2 of 3 shown; go on with --after "), "{}", text(&shown.stderr));
    let due = send("1s");
    assert_eq!(server.run(&["consume", "t", "--group", "g", "--count", "1", "--wait", "30s"]), "1s\n");
    let handle = due[0]["recall_handle"].as_str().expect("a handle");
    assert_eq!(exit_code(&server, &["message", "recall", handle, "--topic", "t"]), Some(4), "it is delivered");
}

#[test]
fn how_far_ahead_a_message_may_be_delayed_is_a_setting() {
    let far = |server: &Server| {
        server.run(&["topic", "create", "t", "--type", "delay"]);
        server.centaur(&["produce", "t", "--delay", "39d", "--body", "x"])
    };
    let output = far(&Server::start());
    assert!(!output.status.success() && text(&output.stderr).contains("delivery_timestamp"), "{output:?}");
    let output = far(&Options::default().set("limits.delay_max", "40d").start());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let check = command(&["config", "check", "--set", "limits.delay_max=41d"]).output().expect("the binary runs");
    assert_eq!(check.status.code(), Some(78), "{}", text(&check.stderr));
}
