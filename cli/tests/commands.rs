//! The commands against a running server: what they print, and how they end.

mod harness;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use centaur_apis::v2::{
    Code, Publishing, Resource, Settings, Status, Subscription, TelemetryCommand, VerifyMessageCommand,
    VerifyMessageResult, messaging_service_client::MessagingServiceClient, settings, telemetry_command,
};
use harness::{Options, PATIENCE, Server, command, in_time, text, wait_until};
use serde_json::{Value, json as object};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

fn exit_code(server: &Server, arguments: &[&str]) -> Option<i32> {
    server.centaur(arguments).status.code()
}

#[test]
fn a_topic_lives_and_dies() {
    let server = Server::start();
    server.run(&["topic", "create", "orders", "--queues", "4"]);
    let listed = json(&server.run(&["topic", "list", "-o", "json"]));
    assert_eq!(listed["total"], 1);
    assert_eq!(listed["topics"][0]["topic"]["name"], "orders");
    assert_eq!(listed["topics"][0]["topic"]["type"], "normal");
    let described = json(&server.run(&["topic", "describe", "orders", "-o", "json"]));
    assert_eq!(described["queues"].as_array().map(Vec::len), Some(4));
    server.run(&["topic", "update", "orders", "--queues", "6", "--permission", "r"]);
    let described = json(&server.run(&["topic", "get", "orders", "-o", "json"]));
    assert_eq!((&described["topic"]["queues"], &described["topic"]["permission"]), (&6.into(), &"r".into()));
    assert!(server.run(&["topic", "delete", "orders", "--dry-run"]).contains("would be deleted"));
    server.run(&["topic", "delete", "orders", "--yes"]);
    assert_eq!(exit_code(&server, &["topic", "describe", "orders"]), Some(3));
}

#[test]
fn a_group_lives_and_dies() {
    let server = Server::start();
    let settings = ["--order", "fifo", "--max-attempts", "3", "--backoff", "custom:1s,5s"];
    server.run(&[&["group", "create", "workers"][..], &settings].concat());
    let described = json(&server.run(&["group", "describe", "workers", "-o", "json"]));
    assert_eq!(described["group"]["order"], "fifo");
    assert_eq!(described["group"]["max_attempts"], 3);
    assert_eq!(described["group"]["backoff"], "custom:1s,5s");
    server.run(&["group", "update", "workers", "--when-exhausted", "block", "--shared-percent", "20"]);
    let shown = server.run(&["group", "describe", "workers"]);
    for line in ["order     fifo", "exhausted block", "shared    20 %"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    server.run(&["group", "update", "workers", "--max-attempts", "9"]);
    let listed = json(&server.run(&["group", "list", "-o", "json"]));
    assert_eq!(listed["groups"][0]["group"]["max_attempts"], 9);
    server.run(&["group", "delete", "workers", "--yes"]);
    assert_eq!(exit_code(&server, &["group", "describe", "workers"]), Some(3));
}

#[test]
fn exit_codes_say_what_happened() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    server.run(&["group", "create", "g"]);
    for (arguments, code) in [
        (&["topic", "describe", "absent"][..], 3),
        (&["topic", "update", "absent", "--queues", "2"], 3),
        (&["topic", "delete", "absent", "--yes"], 3),
        (&["topic", "delete", "absent", "--yes", "--if-exists"], 0),
        (&["topic", "create", "t"], 4),
        (&["topic", "create", "t", "--if-not-exists", "--queues", "9"], 0),
        (&["group", "create", "g", "--if-not-exists"], 0),
        (&["topic", "create", "not a name"], 11),
        (&["topic", "delete", "t"], 10),
        (&["group", "create", "g"], 4),
        (&["group", "delete", "g"], 10),
        (&["message", "get", "0100", "--topic", "t"], 3),
        (&["message", "list", "absent"], 3),
        (&["produce", "absent", "--body", "x"], 3),
        (&["consume", "absent", "--group", "g"], 3),
        (&["topic", "create"], 2),
    ] {
        let output = server.centaur(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    }
    let topic = json(&server.run(&["topic", "describe", "t", "-o", "json"]));
    assert_eq!(topic["topic"]["version"], 1, "it stays as it is: {topic}");
}

#[test]
fn an_error_is_one_cause_and_one_hint() {
    let server = Server::start();
    let output = server.centaur(&["topic", "describe", "absent"]);
    let errors = text(&output.stderr);
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 2, "{errors}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains("absent"), "{errors}");
    assert!(lines[1].starts_with("hint: ") && lines[1].contains("topic create"), "{errors}");
    let output = server.centaur(&["topic", "describe", "absent", "-o", "json"]);
    let error = json(&text(&output.stderr));
    assert_eq!(error["error"]["code"], "TOPIC_NOT_FOUND");
    assert!(error["error"]["hint"].is_string());
}

#[test]
fn without_a_server_the_hint_says_how_to_start_one() {
    // Bound by nobody: the port of a listener that is gone.
    let address =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port").to_string();
    for arguments in [&["topic", "list", "-a", &address][..], &["produce", "t", "--body", "x", "-e", &address]] {
        let output = command(arguments).output().expect("the binary runs");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{errors}");
        assert!(errors.contains(&address) && errors.contains("centaur serve --dev"), "{errors}");
    }
}

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
fn clients_are_listed_while_they_are_connected() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    let mut consumer = follow(&server, "t", "watchers");
    wait_for_client(&server, "watchers");
    consumer.kill().expect("ours");
    consumer.wait().expect("ours");
}

#[test]
fn a_waiting_consumer_neither_delays_a_stop_nor_ends_with_it() {
    let mut server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    let mut consumer = follow(&server, "t", "waiters");
    wait_for_client(&server, "waiters");
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(15), "half of what the server may take");
    server.restart();
    server.run(&["produce", "t", "--body", "after"]);
    let mut line = String::new();
    let mut stdout = BufReader::new(consumer.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("read");
    assert_eq!(line, "after\n");
    consumer.kill().expect("ours");
    consumer.wait().expect("ours");
}

fn follow(server: &Server, topic: &str, group: &str) -> Child {
    command(&["consume", topic, "--group", group, "--follow", "-e", &server.clients().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts")
}

fn wait_for_client(server: &Server, group: &str) {
    wait_until("the consumer to be listed", || {
        let listed = json(&server.run(&["client", "list", "--group", group, "-o", "json"]));
        listed["clients"].as_array().is_some_and(|clients| clients.len() == 1)
    });
}

#[test]
fn the_clients_of_a_group_are_described_with_it() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    let mut consumer = follow(&server, "t", "watchers");
    wait_for_client(&server, "watchers");
    let described = json(&server.run(&["group", "describe", "watchers", "-o", "json"]));
    let listed = json(&server.run(&["client", "list", "--group", "watchers", "-o", "json"]));
    assert_eq!(described["clients"], object!([listed["clients"][0]["id"]]));
    consumer.kill().expect("ours");
    consumer.wait().expect("ours");
}

#[test]
fn clients_that_are_not_there_cannot_be_sent_away() {
    let server = Server::start();
    assert_eq!(exit_code(&server, &["client", "reconnect", "nobody"]), Some(3));
    server.run(&["topic", "create", "t"]);
    let mut consumer = follow(&server, "t", "watchers");
    wait_for_client(&server, "watchers");
    let listed = json(&server.run(&["client", "list", "-o", "json"]));
    let id = listed["clients"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(exit_code(&server, &["client", "reconnect", &id, "nobody"]), Some(8));
    assert_eq!(exit_code(&server, &["client", "reconnect", &id]), Some(0));
    consumer.kill().expect("ours");
    consumer.wait().expect("ours");
}

#[test]
fn lists_go_on_until_their_end() {
    let server = Server::start();
    let names = |listed: &Value, field: &str, of: &str| -> Vec<String> {
        let entries = listed[field].as_array().expect("a list");
        entries.iter().map(|entry| entry[of]["name"].as_str().expect("a name").to_owned()).collect()
    };
    for name in ["a", "b", "c"] {
        server.run(&["topic", "create", name]);
        server.run(&["group", "create", name]);
    }
    for (command, field, of) in [("topic", "topics", "topic"), ("group", "groups", "group")] {
        let page = |after: &str| {
            let listed = json(&server.run(&[command, "list", "--limit", "2", "--after", after, "-o", "json"]));
            (names(&listed, field, of), listed["next"].clone(), listed["total"].clone())
        };
        assert_eq!(page(""), (vec!["a".into(), "b".into()], "b".into(), 3.into()));
        assert_eq!(page("b"), (vec!["c".into()], Value::Null, 3.into()), "the last page says so");
        assert_eq!(page("a"), (vec!["b".into(), "c".into()], Value::Null, 3.into()));
    }
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
fn settings_of_a_topic_stay_until_they_are_changed() {
    let server = Server::start();
    let settings = ["--type", "lite", "--retention", "7d", "--ttl", "1h", "--dedupe", "10m", "--lite-expiry", "30d"];
    server.run(&[&["topic", "create", "t"][..], &settings].concat());
    server.run(&["topic", "update", "t", "--ttl", "0", "--retention", "1d"]);
    let topic = json(&server.run(&["topic", "get", "t", "-o", "json"]))["topic"].clone();
    assert_eq!(topic["type"], "lite");
    let (minute, day) = (60_000, 86_400_000_u64);
    for (setting, ms) in
        [("retention_ms", day), ("ttl_ms", 0), ("dedupe_ms", 10 * minute), ("lite_expiry_ms", 30 * day)]
    {
        assert_eq!(topic[setting], ms, "{setting}: {topic}");
    }
    let shown = server.run(&["topic", "describe", "t"]);
    for line in ["type        lite", "retention   1d", "ttl         never", "dedupe      10m"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    assert!(shown.lines().any(|shown| shown == "lite expiry 30d"), "{shown}");
    for wrong in [
        ["--ttl", "5"],
        ["--retention", "soon"],
        ["--type", "colourful"],
        ["--lite-expiry", "5m"],
        ["--lite-expiry", "31d"],
    ] {
        assert_eq!(exit_code(&server, &[&["topic", "update", "t"][..], &wrong].concat()), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_group_is_put_back_and_ahead() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    server.run(&["produce", "t", "--body", "a", "--body", "b", "--body", "c"]);
    let consume = |count: &str| server.run(&["consume", "t", "--group", "g", "--count", count, "--wait", "500ms"]);
    assert_eq!(consume("3"), "a\nb\nc\n");
    let reset = |arguments: &[&str]| {
        let done = json(&server.run(&[&["group", "reset", "g", "-o", "json"], arguments].concat()));
        let queue = &done["queues"][0];
        (done["done"] == true, ["before", "after", "again", "skipped"].map(|place| queue[place].as_u64()))
    };
    let places = |places: [u64; 4]| places.map(Some);
    assert_eq!(reset(&["--to", "earliest", "--dry-run"]), (false, places([3, 0, 3, 0])));
    assert_eq!(exit_code(&server, &["group", "reset", "g", "--to", "earliest"]), Some(10));
    assert_eq!(consume("1"), "", "neither changed anything");
    assert_eq!(reset(&["--to", "earliest", "--yes"]), (true, places([3, 0, 3, 0])));
    assert_eq!(consume("3"), "a\nb\nc\n");
    assert_eq!(reset(&["--topic", "t", "--queue", "0", "--to-offset", "2", "--yes"]), (true, places([3, 2, 1, 0])));
    assert_eq!(consume("1"), "c\n");
    assert_eq!(reset(&["--to", "1h", "--yes"]), (true, places([3, 0, 3, 0])));
    assert_eq!(reset(&["--to", "latest", "--yes"]), (true, places([0, 3, 0, 3])));
    assert_eq!(consume("1"), "");
    assert_eq!(exit_code(&server, &["group", "reset", "absent", "--to", "earliest", "--yes"]), Some(3));
    assert_eq!(exit_code(&server, &["group", "reset", "g", "--topic", "absent", "--to", "latest", "--yes"]), Some(3));
    assert_eq!(exit_code(&server, &["group", "reset", "g"]), Some(2), "where to?");
}

#[test]
fn a_group_for_lite_topics_shows_what_it_does_with_them() {
    let server = Server::start();
    server.run(&["topic", "create", "rooms", "--type", "lite"]);
    server.run(&["group", "create", "g", "--lite-topic", "rooms", "--lite-exclusive", "--lite-quota", "7"]);
    let shown = server.run(&["group", "describe", "g"]);
    assert!(shown.lines().any(|line| line == "lite      rooms, quota 7, exclusive"), "{shown}");
}

#[test]
fn who_adds_queues_to_a_topic_in_order_is_warned() {
    let server = Server::start();
    let warned = |name: &str, kind: &str, queues: &str| {
        server.run(&["topic", "create", name, "--type", kind, "--queues", "2"]);
        let output = server.centaur(&["topic", "update", name, "--queues", queues]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr).contains("warning: with 3 queues instead of 2")
    };
    assert!(warned("steps", "fifo", "3"));
    assert!(warned("all", "mixed", "3"));
    assert!(!warned("orders", "normal", "3"));
    assert!(!warned("same", "fifo", "2"), "nothing changes");
}

#[test]
fn dead_letters_are_listed_and_sent_again_once() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    server.run(&["group", "create", "g", "--max-attempts", "1"]);
    assert_eq!(exit_code(&server, &["dlq", "list", "absent"]), Some(3));
    assert_eq!(json(&server.run(&["dlq", "list", "g", "-o", "json"]))["messages"], serde_json::json!([]));
    assert_eq!(server.run(&["dlq", "redrive", "g", "--all"]), "", "there is nothing to send");
    server.run(&["produce", "t", "--body", "a", "--body", "b", "--property", "shop=north"]);
    let lost = ["consume", "t", "--group", "g", "--count", "2", "--no-ack", "--invisible", "10s"];
    assert_eq!(server.run(&lost), "a\nb\n");
    let listed = || json(&server.run(&["dlq", "list", "-o", "json"]))["groups"].clone();
    wait_until("the leases to end", || listed()[0]["messages"] == 2);
    assert_eq!(listed()[0]["group"], "g");

    let letters = json(&server.run(&["dlq", "list", "g", "-o", "json"]))["messages"].clone();
    let first = &letters[0];
    assert_eq!((&first["origin_topic"], &first["attempts"]), (&"t".into(), &"1".into()));
    assert_eq!(first["reason"], "attempts exhausted");
    let id = first["id"].as_str().expect("an id");
    let redrive = |arguments: &[&str]| {
        let told = lines(&server.run(&[&["dlq", "redrive", "g", "-o", "json"], arguments].concat()));
        told.iter().map(|one| one["outcome"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let consume = || server.run(&["consume", "t", "--group", "g", "--wait", "500ms"]);
    assert_eq!(redrive(&["--all", "--dry-run"]), ["SENT", "SENT"]);
    assert_eq!(consume(), "", "nothing happened");
    assert_eq!(redrive(&["--id", id]), ["SENT"]);
    assert_eq!(consume(), "a\n");
    let sent_again = || {
        let listed = json(&server.run(&["dlq", "list", "g", "-o", "json"]));
        listed["messages"].as_array().expect("letters").iter().map(|one| one["sent_again"] == true).collect::<Vec<_>>()
    };
    assert_eq!(sent_again(), [true, false]);
    assert_eq!(redrive(&["--all"]), ["ALREADY", "SENT"]);
    let again = lines(&server.run(&["consume", "t", "--group", "g", "--count", "1", "-o", "json"]));
    assert_eq!((&again[0]["body"], &again[0]["attempt"]), (&"b".into(), &1.into()));
    assert_eq!(again[0]["properties"], serde_json::json!({ "shop": "north" }), "as it was sent");
    assert_eq!(redrive(&["--from", "1h"]), ["ALREADY", "ALREADY"]);
    assert_eq!(sent_again(), [true, true]);
    assert_eq!(exit_code(&server, &["dlq", "redrive", "g", "--id", "absent"]), Some(3));
    assert_eq!(exit_code(&server, &["dlq", "redrive", "g"]), Some(2), "which ones?");
}

#[test]
fn each_dead_letter_that_is_named_has_its_own_result() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    server.run(&["group", "create", "g", "--max-attempts", "1"]);
    assert_eq!(exit_code(&server, &["dlq", "redrive", "g", "--id", "absent"]), Some(3), "it has no dead letters");
    server.run(&["produce", "t", "--body", "a", "--body", "b", "--body", "c"]);
    server.run(&["consume", "t", "--group", "g", "--count", "3", "--no-ack", "--invisible", "10s"]);
    let list = |arguments: &[&str]| json(&server.run(&[&["dlq", "list", "g", "-o", "json"], arguments].concat()));
    wait_until("the leases to end", || list(&[])["messages"].as_array().is_some_and(|letters| letters.len() == 3));
    let letters = list(&[])["messages"].clone();
    let id = |at: usize| letters[at]["id"].as_str().expect("an id");

    let page = list(&["--limit", "2"]);
    assert_eq!((&page["next_offset"], &page["end"]), (&2.into(), &3.into()));
    let shown = server.centaur(&["dlq", "list", "g", "--limit", "2"]);
    assert!(text(&shown.stderr).contains("go on with --offset 2"), "{}", text(&shown.stderr));
    assert_eq!(list(&["--offset", "2"])["messages"][0]["id"], letters[2]["id"]);

    let redrive = |arguments: &[&str]| {
        let output = server.centaur(&[&["dlq", "redrive", "g", "-o", "json"], arguments].concat());
        let outcome = |line: &Value| line["outcome"].as_str().unwrap_or_default().to_owned();
        (output.status.code(), lines(&text(&output.stdout)).iter().map(outcome).collect::<Vec<_>>().join(" "))
    };
    let some = ["--id", "absent", "--id", id(0), "--id", "none", "--id", id(1)];
    let limited = [&some[..], &["--limit", "1"]].concat();
    assert_eq!(redrive(&limited), (Some(8), "NOT_FOUND SENT".to_owned()), "one is enough");
    assert_eq!(redrive(&some), (Some(8), "NOT_FOUND ALREADY NOT_FOUND SENT".to_owned()));
    assert_eq!(redrive(&["--id", id(2)]), (Some(0), "SENT".to_owned()));
    assert_eq!(server.run(&["consume", "t", "--group", "g", "--wait", "500ms"]), "a\nb\nc\n");
}

#[test]
fn groups_with_dead_letters_are_listed_by_pages() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    server.run(&["produce", "t", "--body", "a"]);
    for group in ["g1", "g2", "g3"] {
        server.run(&["group", "create", group, "--max-attempts", "1"]);
        let lost = ["consume", "t", "--group", group, "--count", "1", "--no-ack", "--invisible", "10s"];
        server.run(&lost);
    }
    let list = |arguments: &[&str]| {
        let listed = json(&server.run(&[&["dlq", "list", "-o", "json"], arguments].concat()));
        let groups = listed["groups"].as_array().expect("groups").iter();
        let names: Vec<_> = groups.map(|one| one["group"].as_str().unwrap_or_default().to_owned()).collect();
        (names.join(" "), listed["next"].clone())
    };
    wait_until("three groups", || list(&[]).0 == "g1 g2 g3");
    assert_eq!(list(&["--limit", "2"]), ("g1 g2".to_owned(), "g2".into()));
    assert_eq!(list(&["--after", "g2"]), ("g3".to_owned(), Value::Null));
    assert_eq!(list(&["--limit", "3"]), ("g1 g2 g3".to_owned(), Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_transactions_are_decided_each_with_its_result() {
    let server = Options::default()
        .set("transaction.timeout", "1s")
        .set("transaction.check_interval", "1s")
        .set("transaction.checks_max", "1")
        .start();
    server.run(&["topic", "create", "t", "--type", "transaction", "--queues", "1"]);
    let open = |body: &str| {
        let sent = lines(&server.run(&["produce", "t", "--transaction", "unknown", "--body", body, "-o", "json"]));
        sent[0]["transaction_id"].as_str().expect("text").to_owned()
    };
    let ids = ["a", "b", "c"].map(open);
    let page = |arguments: &[&str]| {
        let listed = json(&server.run(&[&["transaction", "list", "-o", "json"], arguments].concat()));
        let listed_ids = listed["transactions"].as_array().expect("a list").iter();
        let listed_ids: Vec<_> =
            listed_ids.map(|one| one["transaction_id"].as_str().expect("text").to_owned()).collect();
        (listed_ids, listed["next"].clone(), listed["total"].clone())
    };
    let (first, next, total) = page(&["--limit", "2"]);
    assert_eq!((&first[..], total), (&ids[..2], 3.into()));
    let (rest, next, _) = page(&["--after", next.as_str().expect("a place")]);
    assert_eq!((&rest[..], next), (&ids[2..], Value::Null));

    let [a, b, c] = ids.each_ref().map(String::as_str);
    let commit = server.centaur(&["transaction", "commit", a, "absent", b, "--topic", "t", "--yes", "-o", "json"]);
    assert_eq!(commit.status.code(), Some(8), "{}", text(&commit.stderr));
    let told = lines(&text(&commit.stdout));
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((&told[0]["resolution"], &told[2]["resolution"]), (&"committed".into(), &"committed".into()));
    assert!(told[1]["error"].is_string(), "{told:?}");
    let drop = |arguments: &[&str]| exit_code(&server, &[&["transaction", "drop", "--yes"], arguments].concat());
    assert_eq!(drop(&[a, b, "--topic", "t"]), Some(4), "none of them");
    assert_eq!(drop(&[a]), Some(2), "of which topic?");
    assert_eq!(drop(&["--discarded"]), Some(0), "there is none");
    assert_eq!(page(&[]).0, [c]);

    // Questions are put while there is somebody who may be asked.
    let producer = producer_of(&server, "t").await;
    wait_until("one to be set aside", || page(&["--discarded"]).0 == [c]);
    producer.abort();
    assert_eq!(drop(&["--discarded", "--topic", "absent"]), Some(3));
    assert_eq!(drop(&["--discarded", "--topic", "t"]), Some(0));
    assert_eq!(page(&[]).0, [""; 0]);
    assert_eq!(server.run(&["consume", "t", "--group", "g", "--wait", "500ms"]), "a\nb\n");
}

/// A client with an open stream that never decides anything.
async fn producer_of(server: &Server, topic: &str) -> JoinHandle<()> {
    let topics = vec![Resource { name: topic.to_owned(), ..Default::default() }];
    let publishing = settings::PubSub::Publishing(Publishing { topics, ..Default::default() });
    let (say, mut heard) = introduce(server, "silent", publishing).await;
    tokio::spawn(async move {
        let _say = say;
        while let Ok(Some(_)) = heard.message().await {}
    })
}

/// Opens the stream of a client; it was told its settings.
async fn introduce(
    server: &Server,
    id: &str,
    pub_sub: settings::PubSub,
) -> (mpsc::Sender<TelemetryCommand>, Streaming<TelemetryCommand>) {
    let mut client = MessagingServiceClient::new(server.channel().await);
    let (say, commands) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(commands));
    request.metadata_mut().insert("x-mq-client-id", id.parse().expect("ascii"));
    let mut heard = in_time("the stream", client.telemetry(request)).await.expect("opened").into_inner();
    let settings = telemetry_command::Command::Settings(Settings { pub_sub: Some(pub_sub), ..Settings::default() });
    say.send(TelemetryCommand { status: None, command: Some(settings) }).await.expect("the stream is open");
    in_time("the settings", heard.message()).await.expect("well").expect("the settings");
    (say, heard)
}

/// Waits for the end of a command; makes one when it does not come.
async fn end_of(child: &mut Child) {
    let ended = async {
        while child.try_wait().expect("the child is ours").is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(PATIENCE, ended).await.is_err() {
        child.kill().expect("the child is ours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trying_a_message_ends_as_the_client_says() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    server.run(&["produce", "t", "--body", "a"]);
    let group = Some(Resource { name: "g".into(), ..Default::default() });
    let subscription = settings::PubSub::Subscription(Subscription { group, ..Default::default() });
    let (say, mut heard) = introduce(&server, "handler", subscription).await;
    let answer = |code: Code, command| TelemetryCommand {
        status: Some(Status { code: code.into(), message: String::new() }),
        command: Some(command),
    };
    let result = |nonce| telemetry_command::Command::VerifyMessageResult(VerifyMessageResult { nonce });
    let mut check = async |answer: &dyn Fn(String) -> TelemetryCommand, expected: i32| {
        let operators = server.operators().to_string();
        let mut child = command(&["client", "verify", "handler", "--topic", "t", "--queue", "0", "--offset", "0"])
            .args(["-a", &operators])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let frame = tokio::select! {
            frame = heard.message() => frame.expect("well").expect("a question"),
            () = end_of(&mut child) => {
                let output = child.wait_with_output().expect("the child is ours");
                panic!("no question came: {}: {}", output.status, text(&output.stderr));
            }
        };
        let asked = frame.command;
        let Some(telemetry_command::Command::VerifyMessageCommand(asked)) = asked else { panic!("{asked:?}") };
        say.send(answer(asked.nonce)).await.expect("the stream is open");
        end_of(&mut child).await;
        let output = child.wait_with_output().expect("the child is ours");
        assert_eq!(output.status.code(), Some(expected), "{}", text(&output.stderr));
    };
    check(&|nonce| answer(Code::Ok, result(nonce)), 0).await;
    check(&|nonce| answer(Code::FailedToConsumeMessage, result(nonce)), 1).await;
    check(&|nonce| answer(Code::NotImplemented, result(nonce)), 13).await;
    let echo = |nonce| {
        let question = VerifyMessageCommand { nonce, message: None };
        TelemetryCommand { status: None, command: Some(telemetry_command::Command::VerifyMessageCommand(question)) }
    };
    // It gave the question back.
    check(&echo, 13).await;
}

#[test]
fn transactions_are_listed_and_decided_once() {
    let server = Server::start();
    server.run(&["topic", "create", "t", "--type", "transaction", "--queues", "1"]);
    let open = |body: &str| {
        let sent = lines(&server.run(&["produce", "t", "--transaction", "unknown", "--body", body, "-o", "json"]));
        let text = |field: &str| sent[0][field].as_str().expect("text").to_owned();
        (text("id"), text("transaction_id"))
    };
    server.run(&["produce", "t", "--transaction", "rollback", "--body", "never"]);
    let (by_id, by_message) = (open("by transaction id"), open("by message id"));
    let dropped = open("dropped");
    let listed = || json(&server.run(&["transaction", "list", "--topic", "t", "-o", "json"]));
    let open_ones = listed();
    assert_eq!(open_ones["total"], 3);
    let first = &open_ones["transactions"][0];
    assert_eq!((&first["message_id"], &first["transaction_id"]), (&by_id.0.clone().into(), &by_id.1.clone().into()));
    assert_eq!(exit_code(&server, &["transaction", "commit", &by_id.1, "--topic", "t"]), Some(10));
    server.run(&["transaction", "commit", &by_id.1, "--topic", "t", "--yes"]);
    server.run(&["transaction", "commit", &by_message.0, "--topic", "t", "--yes"]);
    server.run(&["transaction", "drop", &dropped.1, "--topic", "t", "--yes"]);
    assert_eq!(listed()["total"], 0);
    server.run(&["transaction", "commit", &by_id.1, "--topic", "t", "--yes"]);
    assert_eq!(exit_code(&server, &["transaction", "commit", &dropped.1, "--topic", "t", "--yes"]), Some(4));
    assert_eq!(exit_code(&server, &["transaction", "commit", "absent", "--topic", "t", "--yes"]), Some(3));
    let received = server.run(&["consume", "t", "--group", "g", "--wait", "500ms"]);
    assert_eq!(received, "by transaction id\nby message id\n");
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
