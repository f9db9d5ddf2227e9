use std::time::Duration;

use centaur_apis::{
    log,
    v2::{settings::PubSub, telemetry_command::Command, *},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::harness::*;

pub type Out = mpsc::Sender<TelemetryCommand>;

pub async fn open(client: &mut Client, id: &str) -> (Out, Streaming<TelemetryCommand>) {
    let (out, frames) = mpsc::channel(64);
    // Comes back as soon as the headers are here, before anything was said.
    let opened = timeout(Duration::from_secs(10), client.telemetry(from(id, ReceiverStream::new(frames)))).await;
    (out, opened.expect("headers come at once").expect("opened").into_inner())
}

pub fn producer(topics: &[&str]) -> Settings {
    let topics = topics.iter().filter_map(|name| named(name)).collect();
    let publishing = Publishing { topics, ..Default::default() };
    Settings {
        client_type: Some(ClientType::Producer.into()),
        pub_sub: Some(PubSub::Publishing(publishing)),
        ..Default::default()
    }
}

pub fn consumer(language: Language) -> Settings {
    let subscription = Subscription { group: named("workers"), ..Default::default() };
    Settings {
        client_type: Some(ClientType::PushConsumer.into()),
        user_agent: Some(Ua { language: language.into(), ..Default::default() }),
        pub_sub: Some(PubSub::Subscription(subscription)),
        ..Default::default()
    }
}

pub async fn say(out: &Out, settings: Settings) {
    let command = TelemetryCommand { status: None, command: Some(Command::Settings(settings)) };
    out.send(command).await.expect("the stream is open");
}

pub async fn told(stream: &mut Streaming<TelemetryCommand>) -> Settings {
    let frame = timeout(Duration::from_secs(10), stream.message()).await.expect("an answer comes");
    let frame = frame.expect("the stream is well").expect("the stream goes on");
    assert_eq!(code(frame.status.as_ref()), Code::Ok);
    match frame.command {
        Some(Command::Settings(settings)) => settings,
        other => panic!("{other:?} is not settings"),
    }
}

#[tokio::test]
async fn all_settings_are_answered_with_settings() {
    both(async |mut h: Harness| {
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        for topics in [&[][..], &["orders"][..], &["orders", "invoices"][..]] {
            say(&out, producer(topics)).await;
            let settings = told(&mut stream).await;
            let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("{settings:?}") };
            let echoed: Vec<_> = publishing.topics.into_iter().map(Some).collect();
            assert_eq!(echoed, topics.iter().map(|name| named(name)).collect::<Vec<_>>());
            assert_eq!(publishing.max_body_size, 4_194_304);
        }
        drop(out);
        assert!(stream.message().await.expect("well ended").is_none(), "the server ends when the client does");
    })
    .await;
}

#[tokio::test]
async fn unusable_settings_end_the_stream() {
    both(async |mut h: Harness| {
        let mut groupless = consumer(Language::Java);
        groupless.pub_sub = Some(PubSub::Subscription(Subscription::default()));
        let entry = SubscriptionEntry { topic: named("a b"), expression: None };
        let topicless = Subscription { group: named("workers"), subscriptions: vec![entry], ..Default::default() };
        let mut misled = consumer(Language::Java);
        misled.pub_sub = Some(PubSub::Subscription(topicless));
        for settings in [Settings::default(), producer(&["a b"]), groupless, misled] {
            let (out, mut stream) = open(&mut h.client, CLIENT).await;
            say(&out, settings).await;
            let error = stream.message().await.expect_err("refused");
            assert_eq!(error.code(), tonic::Code::InvalidArgument);
        }
    })
    .await;
}

#[tokio::test]
async fn each_client_is_told_a_groups_pauses_in_its_own_terms() {
    let group = log::Group {
        name: "workers".into(),
        max_attempts: 4,
        backoff: Some(log::group::Backoff::Exponential(log::ExponentialBackoff {
            initial_ms: 2_000,
            max_ms: 8_000,
            multiplier: 2.0,
        })),
        ..Default::default()
    };
    let policy = async |h: &mut Harness, language, version: &str| {
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        let mut sent = consumer(language);
        sent.user_agent = Some(Ua { language: language.into(), version: version.into(), ..Default::default() });
        say(&out, sent).await;
        let policy = told(&mut stream).await.backoff_policy.expect("a policy");
        assert_eq!(policy.max_attempts, 4);
        match policy.strategy.expect("a strategy") {
            retry_policy::Strategy::CustomizedBackoff(list) => list.next.iter().map(|next| next.seconds).collect(),
            retry_policy::Strategy::ExponentialBackoff(growing) => {
                let seconds = |time: Option<prost_types::Duration>| time.expect("a time").seconds;
                vec![seconds(growing.initial), seconds(growing.max)]
            }
        }
    };
    both(async |mut h: Harness| {
        h.store.world().groups.insert("workers".into(), group.clone());
        assert_eq!(policy(&mut h, Language::Java, "5.0.7").await, [2, 8]);
        assert_eq!(policy(&mut h, Language::Python, "5.1.2").await, [2, 4, 8], "a list, for it knows nothing else");
        assert_eq!(policy(&mut h, Language::NodeJs, "1.0.8").await, [2_000, 8_000], "it takes seconds for ms");
        assert_eq!(policy(&mut h, Language::NodeJs, "1.0.9").await, [2, 8]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_a_client_id_is_told_and_ended() {
    both(async |mut h: Harness| {
        let (_out, frames) = mpsc::channel::<TelemetryCommand>(1);
        let opened = h.client.telemetry(Request::new(ReceiverStream::new(frames))).await;
        let mut stream = opened.expect("opened").into_inner();
        let frame = stream.message().await.expect("well").expect("one frame");
        assert_eq!((code(frame.status.as_ref()), frame.command), (Code::ClientIdRequired, None));
        assert!(stream.message().await.expect("well ended").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_reads_disturbs_nobody() {
    both(async |mut h: Harness| {
        let (deaf, mut unread) = open(&mut h.client, "deaf").await;
        let settings = TelemetryCommand { status: None, command: Some(Command::Settings(producer(&["orders"]))) };
        let mut said = 0;
        // It ends with an error, or nothing is taken any more: who does not read does not hear of the end.
        while let Ok(Ok(())) = timeout(Duration::from_secs(1), deaf.send(settings.clone())).await {
            said += 1;
            assert!(said < 100_000, "who reads nothing loses the stream");
        }
        let heard = async { while let Ok(Some(_)) = unread.message().await {} };
        timeout(Duration::from_secs(10), heard).await.expect("it ends");
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        say(&out, producer(&["orders"])).await;
        told(&mut stream).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_for_a_minute_loses_its_stream() {
    let mut h = Harness::local(|_| ());
    let (reader, mut read) = open(&mut h.client, "reader").await;
    let (deaf, mut unread) = open(&mut h.client, "deaf").await;
    say(&reader, producer(&["orders"])).await;
    told(&mut read).await;
    say(&deaf, producer(&["orders"])).await;
    timeout(Duration::from_secs(61), deaf.closed()).await.expect("the stream ends");
    assert!(unread.message().await.expect("it ends well").is_none(), "what it did not read is gone");
    say(&reader, producer(&["orders"])).await;
    told(&mut read).await;
}

#[tokio::test]
async fn a_cut_stream_leaves_the_client_known() {
    both(async |mut h: Harness| {
        let (out, mut stream) = open(&mut h.client, CLIENT).await;
        say(&out, consumer(Language::DotNet)).await;
        told(&mut stream).await;
        drop((out, stream));
        let request = HeartbeatRequest { group: named("workers"), client_type: 0 };
        let answer = h.client.heartbeat(ours(request)).await.expect("a status");
        assert_eq!(code(answer.get_ref().status.as_ref()), Code::Ok);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hasty_client_that_stays_silent_is_told_twice() {
    let mut h = Harness::local(|_| ());
    let (out, mut stream) = open(&mut h.client, CLIENT).await;
    say(&out, consumer(Language::NodeJs)).await;
    let first = told(&mut stream).await;
    let Some(retry_policy::Strategy::ExponentialBackoff(_)) =
        first.backoff_policy.as_ref().and_then(|p| p.strategy.clone())
    else {
        panic!("{first:?}")
    };
    assert_eq!(told(&mut stream).await, first);
    let third = timeout(Duration::from_secs(60), stream.message()).await;
    assert!(third.is_err(), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_hasty_client_at_work_is_told_once() {
    let mut h = Harness::local(|_| ());
    let (out, mut stream) = open(&mut h.client, CLIENT).await;
    say(&out, consumer(Language::NodeJs)).await;
    told(&mut stream).await;
    let request = HeartbeatRequest { group: named("workers"), client_type: 0 };
    h.client.heartbeat(ours(request)).await.expect("a status");
    assert!(timeout(Duration::from_secs(60), stream.message()).await.is_err());
}
