//! Random work against a small reference.

use super::*;

/// Random work against a small reference: order within each lite topic, nothing lost, nothing of a
/// lite topic that one is not subscribed to, with the store closed and opened in between.
#[tokio::test]
async fn random_work_keeps_order_and_loses_nothing() {
    const CLIENTS: [&str; 3] = ["one", "two", "three"];
    const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
    let seed = harness::setting("CENTAUR_LITE_SEED", 7);
    let mut random = centaur_store::log::faulty::Random(seed);
    let mut bench = Bench::new().await;
    let mut sent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut finished: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut held: Vec<Delivery> = Vec::new();
    let mut mine: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in NAMES {
        bench.send_all(name, &[&format!("{name}0")]).await;
        sent.entry(name).or_default().push(format!("{name}0"));
    }
    for step in 0..1500 {
        let client = CLIENTS[random.below(3) as usize];
        let name = NAMES[random.below(5) as usize];
        match random.below(100) {
            0..35 => {
                let id = format!("{name}{}", sent[name].len());
                bench.send(name, &id).await.expect("sent");
                sent.entry(name).or_default().push(id);
            }
            35..70 => {
                let taken = bench.pop(client, 1 + u32::try_from(random.below(4)).expect("small")).await;
                for delivery in &taken {
                    let id = message_id(&delivery.properties);
                    let of = NAMES.into_iter().find(|name| id.starts_with(name)).expect("known");
                    assert!(
                        mine.get(client).is_some_and(|names| names.contains(&of)),
                        "seed {seed}, step {step}: {id}"
                    );
                    // Everything before it in its lite topic is settled, or came with it.
                    let before = sent[of].iter().take_while(|other| **other != id);
                    let with_it = ids(&taken);
                    for other in before {
                        let is_settled = finished.get(of).is_some_and(|ids| ids.contains(other));
                        assert!(is_settled || with_it.contains(other), "seed {seed}, step {step}: {id} before {other}");
                    }
                }
                held.extend(taken);
            }
            70..85 if !held.is_empty() => {
                let delivery = held.swap_remove(random.below(held.len() as u64) as usize);
                let id = message_id(&delivery.properties);
                let of = NAMES.into_iter().find(|name| id.starts_with(name)).expect("known");
                if ack(&mut bench.client, GROUP, TOPIC, &delivery.handle).await.is_ok() {
                    finished.entry(of).or_default().push(id);
                }
            }
            85..90 => {
                bench.add(client, &[name]).await;
                mine.entry(client).or_default().push(name);
            }
            90..93 => {
                bench.sync(client, Action::PartialRemove, &[name]).await.expect("left");
                mine.entry(client).or_default().retain(|other| *other != name);
            }
            93..95 => {
                bench.end(client).await;
                mine.remove(client);
            }
            95..97 => bench.reopen().await,
            _ => bench.hands.pass(random.below(20_000)),
        }
    }
    bench.hands.pass(INVISIBLE_MS + 1);
    bench.sync("last", Action::CompleteAdd, &NAMES).await.expect("subscribed");
    for id in bench.drain("last").await {
        let of = NAMES.into_iter().find(|name| id.starts_with(name)).expect("known");
        finished.entry(of).or_default().push(id);
    }
    for name in NAMES {
        let (mut sent, mut finished) = (sent[name].clone(), finished[name].clone());
        sent.sort_unstable();
        finished.sort_unstable();
        finished.dedup();
        assert_eq!(finished, sent, "seed {seed}");
    }
}
