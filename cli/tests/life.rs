//! From the start to the end of a server, also when something is in the way.

mod harness;

use std::{fs, net::TcpListener, time::Duration};

use centaur_apis::v2::{
    Publishing, Settings, TelemetryCommand, messaging_service_client::MessagingServiceClient, settings,
    telemetry_command,
};
use harness::{Options, Server, command, in_time, refused, text, wait_until};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

#[test]
fn a_server_starts_drains_and_starts_again() {
    let mut server = Server::start();
    let ports = server.ports();
    assert!(server.log().contains("ready: boot success"), "{}", server.log());
    assert_eq!(server.stop().code(), Some(0));
    assert!(server.log().contains("\"clean\":true"), "{}", server.log());
    assert!(!server.data_dir().join("run/ports.json").exists(), "the file is gone with the process");
    server.restart();
    assert_eq!(server.ports(), ports);
    server.kill();
    server.restart();
    assert_eq!(server.ports(), ports);
}

#[test]
fn every_log_line_is_json() {
    let mut server = Server::start();
    server.stop();
    for line in server.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["ts"].is_string() && line["msg"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[test]
fn readiness_ends_before_the_connections_do() {
    let mut server = Options::default().set("shutdown.notice", "20s").start();
    server.signal("TERM");
    wait_until("readiness to end", || server.get("/readyz").0 == 503);
    assert_eq!(server.get("/healthz").0, 200, "the process is alive");
    server.signal("TERM"); // the second one does not wait for the notice
    assert_eq!(server.wait().code(), Some(1), "connections were not drained");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_tells_its_clients_to_connect_elsewhere() {
    let mut server = Options::default().set("shutdown.notice", "2s").start();
    let mut client = MessagingServiceClient::new(server.channel().await);
    let (say, commands) = mpsc::channel(1);
    let mut request = Request::new(ReceiverStream::new(commands));
    request.metadata_mut().insert("x-mq-client-id", "somebody".parse().expect("ascii"));
    let mut heard = in_time("the stream", client.telemetry(request)).await.expect("opened").into_inner();
    let pub_sub = Some(settings::PubSub::Publishing(Publishing::default()));
    let settings = Settings { pub_sub, ..Settings::default() };
    let command = Some(telemetry_command::Command::Settings(settings));
    say.send(TelemetryCommand { status: None, command }).await.expect("the stream is open");
    in_time("the settings", heard.message()).await.expect("well").expect("the settings");

    server.signal("TERM");
    let told = in_time("the command", heard.message()).await.expect("well").expect("a command");
    assert!(matches!(told.command, Some(telemetry_command::Command::ReconnectEndpointsCommand(_))), "{told:?}");
    // It does so; its connection is not in the way of a clean end.
    drop((say, heard, client));
    assert_eq!(tokio::task::spawn_blocking(move || server.wait().code()).await.expect("joined"), Some(0));
}

#[test]
fn who_set_nothing_has_time_to_go_elsewhere_but_for_a_developer() {
    let notice = |arguments: &[&str], expected: &str| {
        let output = command(&[&["config", "print"], arguments].concat()).output().expect("the binary runs");
        let printed = text(&output.stdout);
        assert!(printed.lines().any(|line| line.starts_with(&format!("notice = \"{expected}\""))), "{printed}");
    };
    notice(&[], "5s");
    notice(&["--dev"], "0s");
}

#[test]
fn all_port_conflicts_are_reported_together() {
    let taken = || TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (clients, operators) = (taken(), taken());
    let addresses = [&clients, &operators].map(|taken| taken.local_addr().expect("bound").to_string());
    let set = |role: &str, index: usize| format!("{role}.listen={}", addresses[index]);
    let data = tempfile::tempdir().expect("a directory");
    let data_dir = data.path().join("data");
    let output = refused(&data_dir, &["--set", &set("proxy", 0), "--set", &set("operators", 1)]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{errors}");
    assert!(addresses.iter().all(|address| errors.contains(address)), "{errors}");
    assert!(!data_dir.exists(), "no data is touched");
}

#[test]
fn an_unusable_data_directory_is_explained() {
    let parent = tempfile::tempdir().expect("a directory");
    let file = parent.path().join("file");
    fs::write(&file, "").expect("written");
    let output = refused(&file.join("data"), &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{errors}");
    assert!(errors.contains(&format!("the file {} belongs to uid", file.display())), "{errors}");
}

#[test]
fn a_second_process_on_one_directory_names_the_first() {
    let server = Server::start();
    let output = refused(&server.data_dir(), &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{errors}");
    assert!(errors.contains(&server.pid().to_string()), "{errors}");
    assert_eq!(server.get("/readyz").0, 200, "the first one goes on");
}

#[test]
fn the_name_of_the_store_group_cannot_change() {
    let mut server = Server::start();
    server.stop();
    let output = refused(&server.data_dir(), &["--store-group", "other"]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{errors}");
    assert!(errors.contains("\"other\"") && errors.contains("hint: "), "{errors}");
}

#[test]
fn the_directory_of_another_broker_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    fs::create_dir(data.path().join("commitlog")).expect("made");
    assert_eq!(refused(data.path(), &[]).status.code(), Some(76));
    let left: Vec<_> = fs::read_dir(data.path()).expect("readable").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_start_is_fast() {
    // The goal is 100 ms on an idle machine; this bound only catches what is out of all proportion.
    let server = Server::start();
    let log = server.log();
    let ready = log.lines().find(|line| line.contains("boot success")).expect("a ready line");
    let ready: serde_json::Value = serde_json::from_str(ready).expect("JSON");
    let elapsed = Duration::from_millis(ready["elapsed_ms"].as_u64().expect("a number"));
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
}
