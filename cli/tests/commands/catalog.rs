//! Topics and consumer groups.

use super::*;

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
