//! Consumer groups as clients and operators ask for them.

mod harness;

use centaur_apis::store::{GetGroupRequest, PutGroupRequest, PutTopicRequest, Reason};
use centaur_store::{Config, Store};
use harness::{Client, Hands, Medium, create_topic, message, pop, reason, send};

fn open() -> (tempfile::TempDir, Store, Client) {
    let dir = tempfile::tempdir().expect("a directory");
    let config = Config { data_dir: dir.path().into(), ..Config::default() };
    let (store, client) = harness::open(&config, &Hands::default(), &Medium::Real).expect("opens");
    (dir, store, client)
}

#[tokio::test]
async fn the_settings_of_a_group_are_told_without_its_progress() {
    let (_dir, _store, mut client) = open();
    create_topic(&mut client, "orders", 1).await.expect("made");
    let request = PutGroupRequest { name: "workers".into(), max_attempts: Some(5), ..Default::default() };
    let made = client.put_group(request).await.expect("made").into_inner().group;
    for id in ["a", "b"] {
        send(&mut client, "orders", 0, message("orders", id, None, &[], vec![])).await.expect("sent");
    }
    assert_eq!(pop(&mut client, "workers", "orders", 1).await.expect("answered").len(), 1);
    let mut get = async |name: &str| {
        let answer = client.get_group(GetGroupRequest { name: name.into() }).await;
        answer.map(|answer| answer.into_inner().group).map_err(|status| reason(&status))
    };
    assert_eq!(get("workers").await, Ok(made));
    assert_eq!(get("absent").await, Err(Reason::GroupNotFound));
}

#[tokio::test]
async fn an_expiry_of_lite_topics_that_would_not_be_kept_to_is_refused() {
    let (_dir, _store, mut client) = open();
    let minute_ms = 60_000;
    for (ms, is_right) in [
        (0, true),
        (1, false),
        (15 * minute_ms - 1, false),
        (15 * minute_ms, true),
        (30 * 24 * 60 * minute_ms, true),
        (30 * 24 * 60 * minute_ms + 1, false),
    ] {
        let request = PutTopicRequest { name: "rooms".into(), lite_expiry_ms: Some(ms), ..Default::default() };
        let answer = client.put_topic(request).await.map(drop).map_err(|status| reason(&status));
        assert_eq!(answer, if is_right { Ok(()) } else { Err(Reason::Invalid) }, "{ms}");
    }
}
