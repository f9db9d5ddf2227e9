//! Transactions.

use super::{clients::introduce, *};

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
