//! Dead letters.

use super::*;

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
