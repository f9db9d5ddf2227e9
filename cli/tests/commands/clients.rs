//! Clients that are connected, and what they are asked.

use super::*;

#[test]
fn clients_are_listed_while_they_are_connected() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    let _consumer = follow(&server, "t", "watchers");
}

#[test]
fn a_waiting_consumer_neither_delays_a_stop_nor_ends_with_it() {
    let mut server = Server::start();
    server.run(&["topic", "create", "t", "--queues", "1"]);
    let mut consumer = follow(&server, "t", "waiters");
    let began = Instant::now();
    assert_eq!(server.stop().code(), Some(0), "{}", server.log());
    assert!(began.elapsed() < Duration::from_secs(15), "half of what the server may take");
    server.restart();
    server.run(&["produce", "t", "--body", "after"]);
    let mut line = String::new();
    let mut stdout = BufReader::new(consumer.0.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("read");
    assert_eq!(line, "after\n");
}

#[test]
fn the_clients_of_a_group_are_described_with_it() {
    let server = Server::start();
    server.run(&["topic", "create", "t"]);
    let _consumer = follow(&server, "t", "watchers");
    let described = json(&server.run(&["group", "describe", "watchers", "-o", "json"]));
    let listed = json(&server.run(&["client", "list", "--group", "watchers", "-o", "json"]));
    assert_eq!(described["clients"], object!([listed["clients"][0]["id"]]));
}

#[test]
fn clients_that_are_not_there_cannot_be_sent_away() {
    let server = Server::start();
    assert_eq!(exit_code(&server, &["client", "reconnect", "nobody"]), Some(3));
    server.run(&["topic", "create", "t"]);
    let _consumer = follow(&server, "t", "watchers");
    let listed = json(&server.run(&["client", "list", "-o", "json"]));
    let id = listed["clients"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(exit_code(&server, &["client", "reconnect", &id, "nobody"]), Some(8));
    assert_eq!(exit_code(&server, &["client", "reconnect", &id]), Some(0));
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

/// A consumer that goes on until it is dropped.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.kill().expect("ours");
        self.0.wait().expect("ours");
    }
}

/// Starts a consumer; waits until the server knows it.
fn follow(server: &Server, topic: &str, group: &str) -> Follower {
    let consumer = command(&["consume", topic, "--group", group, "--follow", "-e", &server.clients().to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    wait_until("the consumer to be listed", || {
        let listed = json(&server.run(&["client", "list", "--group", group, "-o", "json"]));
        listed["clients"].as_array().is_some_and(|clients| clients.len() == 1)
    });
    Follower(consumer)
}

/// Opens the stream of a client; it was told its settings.
pub async fn introduce(
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
