//! How commands end that did not do what they should.

use super::*;

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
