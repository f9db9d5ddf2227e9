use centaur_apis::{log::TopicType, v2::*};
use tonic::Request;

use crate::harness::*;

async fn one_leased(h: &mut Harness) -> String {
    h.store.add_topic("orders", TopicType::Normal, 1);
    send(&mut h.client, vec![message("orders", "1")]).await;
    let (_, messages) = receive(&mut h.client, ours(receive_from("orders", "workers"))).await;
    handle_of(&messages[0])
}

fn ack(handles: &[&str]) -> Request<AckMessageRequest> {
    let entry = |(at, handle): (usize, &&str)| AckMessageEntry {
        message_id: format!("ID{at}"),
        receipt_handle: (*handle).to_owned(),
        lite_topic: None,
    };
    let entries = handles.iter().enumerate().map(entry).collect();
    ours(AckMessageRequest { group: named("workers"), topic: named("orders"), entries })
}

async fn acked(h: &mut Harness, handles: &[&str]) -> (Code, Vec<Code>) {
    let answer = h.client.ack_message(ack(handles)).await.expect("a status").into_inner();
    for (at, (entry, handle)) in answer.entries.iter().zip(handles).enumerate() {
        assert_eq!((entry.message_id.clone(), entry.receipt_handle.as_str()), (format!("ID{at}"), *handle));
    }
    (code(answer.status.as_ref()), answer.entries.iter().map(|e| code(e.status.as_ref())).collect())
}

#[tokio::test]
async fn acks_are_idempotent_and_each_entry_stands_alone() {
    both(async |mut h: Harness| {
        let handle = one_leased(&mut h).await;
        assert_eq!(acked(&mut h, &[&handle]).await, (Code::Ok, vec![Code::Ok]));
        assert_eq!(acked(&mut h, &[&handle]).await, (Code::Ok, vec![Code::Ok]));
        let invalid = Code::InvalidReceiptHandle;
        assert_eq!(acked(&mut h, &["garbage"]).await, (invalid, vec![invalid]));
        let mixed = acked(&mut h, &["garbage", &handle, ""]).await;
        assert_eq!(mixed, (Code::MultipleResults, vec![invalid, Code::Ok, invalid]));
        assert_eq!(acked(&mut h, &[]).await, (Code::BadRequest, vec![]));
    })
    .await;
}

async fn change(h: &mut Harness, handle: &str, seconds_: i64, suspend: bool) -> (Code, String) {
    let request = ChangeInvisibleDurationRequest {
        group: named("workers"),
        topic: named("orders"),
        receipt_handle: handle.to_owned(),
        invisible_duration: Some(seconds(seconds_)),
        suspend: Some(suspend),
        ..Default::default()
    };
    let answer = h.client.change_invisible_duration(ours(request)).await.expect("a status").into_inner();
    (code(answer.status.as_ref()), answer.receipt_handle)
}

#[tokio::test]
async fn a_changed_lease_has_a_new_handle_and_the_old_one_fails() {
    both(async |mut h: Harness| {
        let old = one_leased(&mut h).await;
        let (code, new) = change(&mut h, &old, 60, false).await;
        assert_eq!(code, Code::Ok);
        assert_ne!(new, old);
        assert_eq!(change(&mut h, &old, 60, false).await, (Code::InvalidReceiptHandle, old.clone()));
        assert_eq!(acked(&mut h, &[&old]).await.0, Code::InvalidReceiptHandle);
        assert_eq!(acked(&mut h, &[&new]).await.0, Code::Ok);
    })
    .await;
}

#[tokio::test]
async fn a_refused_change_still_has_a_handle() {
    both(async |mut h: Harness| {
        let handle = one_leased(&mut h).await;
        assert_eq!(change(&mut h, "garbage", 1, false).await, (Code::InvalidReceiptHandle, "garbage".to_owned()));
        assert_eq!(change(&mut h, &handle, -1, false).await, (Code::IllegalInvisibleTime, handle.clone()));
        assert_eq!(change(&mut h, &handle, 43_201, false).await, (Code::IllegalInvisibleTime, handle.clone()));
        let request = ChangeInvisibleDurationRequest { receipt_handle: handle.clone(), ..Default::default() };
        let nameless = h.client.change_invisible_duration(Request::new(request)).await.expect("a status").into_inner();
        let refused = (code(nameless.status.as_ref()), nameless.receipt_handle);
        assert_eq!(refused, (Code::ClientIdRequired, handle));
    })
    .await;
}

#[tokio::test]
async fn a_suspended_message_does_not_count_its_delivery() {
    both(async |mut h: Harness| {
        let mut handle = one_leased(&mut h).await;
        for (suspend, attempt) in [(true, 1), (false, 2)] {
            assert_eq!(change(&mut h, &handle, 0, suspend).await.0, Code::Ok);
            let (_, messages) = receive(&mut h.client, ours(receive_from("orders", "workers"))).await;
            let system = messages[0].system_properties.as_ref().expect("set");
            assert_eq!(system.delivery_attempt, Some(attempt));
            handle = handle_of(&messages[0]);
        }
    })
    .await;
}

#[tokio::test]
async fn dead_letters_go_by_handle_or_by_id() {
    both(async |mut h: Harness| {
        let held = one_leased(&mut h).await;
        for (handle, id, expected) in [
            (held.as_str(), "1", Code::Ok),
            ("", "1", Code::Ok),
            ("", "gone", Code::Ok),
            ("", " ", Code::InvalidReceiptHandle),
            ("garbage", "1", Code::InvalidReceiptHandle),
        ] {
            let request = ForwardMessageToDeadLetterQueueRequest {
                group: named("workers"),
                topic: named("orders"),
                receipt_handle: handle.to_owned(),
                message_id: id.to_owned(),
                ..Default::default()
            };
            let answer = h.client.forward_message_to_dead_letter_queue(ours(request)).await.expect("a status");
            assert_eq!(code(answer.get_ref().status.as_ref()), expected, "{handle:?} {id:?}");
        }
        let world = h.store.world();
        assert_eq!((world.letters.len(), world.letters[1].client.as_str()), (3, CLIENT));
    })
    .await;
}
