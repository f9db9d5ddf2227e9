//! One kind of message on the server: sent, then taken in, and both measured.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use centaur_apis::{
    admin::admin_client::AdminClient,
    log::Lite,
    store::{PutGroupRequest, PutTopicRequest},
};
use tokio::time;
use tonic::transport::{Channel, Endpoint};

use super::{
    Options, Step,
    kind::{Course, Kind, lead, lite_topic},
};
use crate::{
    client::{self, Connection, Role},
    compare::{Sample, scrape, servers::Server},
    machine::Ticks,
    meter::Extent,
    process::Processes,
    receive::{Consumer, Intake},
    report::Report,
    requests::Run,
    send::Load,
};

/// Receives in flight: more would only wait for the same CPUs.
const RECEIVES: u32 = 16;
const RECEIVE_BATCH: i32 = 32;
/// The one topic with lite topics below it, and the group that consumes them.
const LITE: &str = "lite";
/// Consumers wait for scheduled messages from so long before they are due.
const EARLY: Duration = Duration::from_secs(2);

/// A server with everything that has to be there before the first round.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    options: &'a Options,
    endpoint: String,
    /// The operators' port, as host:port.
    operators: String,
    admin: AdminClient<Channel>,
    processes: Processes,
    /// Each is subscribed to its share of the lite topics as long as it lives.
    lite_consumers: Vec<Connection>,
}

/// What one kind cost in one round.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) send: Measured,
    pub(crate) receive: Measured,
}

#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) report: Report,
    stolen_percent: f64,
    messages_per_block: Option<f64>,
}

impl<'a> Stage<'a> {
    /// Makes the lite topics, and sends a message through each.
    ///
    /// Errors: the server does not answer, or refuses something.
    pub(crate) async fn set_up(server: &Server, options: &'a Options, kinds: &[Kind]) -> Result<Self> {
        let operators = server.operators.clone().context("the server has no operators' port")?;
        let admin = Endpoint::from_shared(format!("http://{operators}"))?.connect().await?;
        let mut stage = Self {
            options,
            endpoint: server.endpoint.clone(),
            operators,
            admin: AdminClient::new(admin),
            processes: Processes::new(vec![server.pid]),
            lite_consumers: Vec::new(),
        };
        if let Some(lite) = kinds.iter().find(|kind| kind.course == Course::Lite) {
            stage.set_up_lite(lite).await.context("the lite topics cannot be made")?;
        }
        Ok(stage)
    }

    async fn set_up_lite(&mut self, kind: &Kind) -> Result<()> {
        let lite_topics = self.options.lite_topics;
        eprintln!("making {lite_topics} lite topics");
        self.put_topic(LITE, kind).await?;
        let lite = Lite { topic: LITE.to_owned(), client_quota: lite_topics, ..Default::default() };
        self.put_group(PutGroupRequest { name: LITE.to_owned(), lite: Some(lite), ..Default::default() }).await?;
        self.lite_consumers = self.connect().await?;
        for connection in &mut self.lite_consumers {
            connection.declare(Role::LiteConsumer { topic: LITE, group: LITE }).await?;
        }
        self.subscribe_lite().await?;
        let (_, sent) = self.send(kind, LITE, u64::from(lite_topics), SystemTime::now()).await?;
        self.receive(kind, LITE, sent).await.map(drop)
    }

    /// Subscribes each lite consumer to its share. A client has to say this again and again, else the
    /// server drops it after three minutes.
    async fn subscribe_lite(&self) -> Result<()> {
        let (lite_topics, count) = (self.options.lite_topics, self.lite_consumers.len());
        for (i, connection) in self.lite_consumers.iter().enumerate() {
            let share = (0..lite_topics).skip(i).step_by(count).map(lite_topic).collect();
            connection.clone().subscribe(LITE, LITE, share).await?;
        }
        Ok(())
    }

    /// Sends the messages of one round and takes them in; `sending` is about how long the first
    /// takes.
    ///
    /// Errors: a call of the load fails, or the server is gone.
    pub(crate) async fn play(&self, kind: &Kind, round: &str, sending: Duration) -> Result<Played> {
        let topic = self.prepare(kind, round).await?;
        let due = SystemTime::now() + lead(sending);
        let (send, sent) = self.send(kind, &topic, self.options.messages, due).await?;
        if kind.course == Course::Due {
            wait_until_nearly(due).await?;
        }
        Ok(Played { send, receive: self.receive(kind, &topic, sent).await? })
    }

    /// Makes the topic of a round, and its group where that has to be told what it is.
    async fn prepare(&self, kind: &Kind, round: &str) -> Result<String> {
        if kind.course == Course::Lite {
            self.subscribe_lite().await?;
            return Ok(LITE.to_owned());
        }
        let topic = format!("{}-{round}", kind.name.replace(' ', "-"));
        self.put_topic(&topic, kind).await?;
        if kind.course == Course::Ordered {
            let group = PutGroupRequest { name: topic.clone(), fifo: Some(true), ..Default::default() };
            self.put_group(group).await?;
        }
        Ok(topic)
    }

    /// Sends, and says how many messages there are now.
    async fn send(&self, kind: &Kind, topic: &str, messages: u64, due: SystemTime) -> Result<(Measured, u64)> {
        let run = Run::begin();
        let mut producers = client::connect(&self.endpoint, usize::from(self.options.connections), &run).await?;
        for producer in &mut producers {
            producer.queues(topic).await?;
            producer.declare(Role::Producer { topic }).await?;
        }
        let load = Load::new(kind.call(&run, topic, self.options.size as usize, due));
        let extent = Extent::Messages(messages);
        let in_flight = self.options.in_flight;
        let measured = self.measure(load.run("send", &producers, in_flight, extent, &self.processes)).await?;
        Ok((measured, load.sent()))
    }

    /// Takes in everything that was sent and passes the kind's filter.
    async fn receive(&self, kind: &Kind, topic: &str, sent: u64) -> Result<Measured> {
        let intake = Intake {
            topic: topic.to_owned(),
            consumers: self.consumers(kind, topic).await?,
            filter: kind.filter(),
            batch: RECEIVE_BATCH,
            in_flight: RECEIVES,
        };
        let delivered = kind.delivered(sent);
        let extent = match kind.course {
            // To become due is part of it, and happens to many before the first is received.
            Course::Due => Extent::Every(delivered),
            Course::Filtered(_) => Extent::Messages(delivered * intake.consumers.len() as u64),
            _ => Extent::Messages(delivered),
        };
        let measured = self.measure(intake.run(extent, &self.processes)).await?;
        // Sends that shared the block would be those of others.
        Ok(Measured { messages_per_block: None, ..measured })
    }

    async fn consumers(&self, kind: &Kind, topic: &str) -> Result<Vec<Consumer>> {
        if kind.course == Course::Lite {
            let consumer =
                |connection: &Connection| Consumer { connection: connection.clone(), group: LITE.to_owned() };
            return Ok(self.lite_consumers.iter().map(consumer).collect());
        }
        let mut consumers = Vec::new();
        for (i, mut connection) in self.connect().await?.into_iter().enumerate() {
            let group = match kind.course {
                Course::Filtered(_) => format!("{topic}-{i}"),
                _ => topic.to_owned(),
            };
            connection.declare(Role::Consumer { topic, group: &group }).await?;
            consumers.push(Consumer { connection, group });
        }
        Ok(consumers)
    }

    async fn measure(&self, load: impl Future<Output = Result<Report>>) -> Result<Measured> {
        let (before, stored_before) = (Ticks::now(), scrape::stored(&self.operators).await?);
        let report = load.await?;
        let (after, stored) = (Ticks::now(), scrape::stored(&self.operators).await?);
        if let Some(error) = &report.first_error {
            bail!("{} calls failed, the first with: {error}", report.errors);
        }
        let (stolen_percent, messages_per_block) =
            (after.stolen_percent(&before), stored.messages_per_block(stored_before));
        Ok(Measured { report, stolen_percent, messages_per_block })
    }

    async fn connect(&self) -> Result<Vec<Connection>> {
        client::connect(&self.endpoint, usize::from(self.options.connections), &Run::begin()).await
    }

    async fn put_topic(&self, name: &str, kind: &Kind) -> Result<()> {
        let request = PutTopicRequest { name: name.to_owned(), r#type: kind.topic_type.into(), ..Default::default() };
        self.admin.clone().put_topic(request).await.with_context(|| format!("topic {name} cannot be made")).map(drop)
    }

    async fn put_group(&self, request: PutGroupRequest) -> Result<()> {
        let name = request.name.clone();
        self.admin.clone().put_group(request).await.with_context(|| format!("group {name} cannot be made")).map(drop)
    }
}

/// Waits until shortly before `due`.
///
/// Errors: it is too late for that.
async fn wait_until_nearly(due: SystemTime) -> Result<()> {
    let Ok(left) = due.duration_since(SystemTime::now()) else {
        bail!("messages became due while others were still sent; use fewer, or a machine with less else to do");
    };
    time::sleep(left.saturating_sub(EARLY)).await;
    Ok(())
}

impl Played {
    /// What the table is made from.
    pub(crate) fn samples(self, kind: &Kind, round: u32) -> Vec<Sample> {
        let sample = |step: Step, measured: Measured| Sample {
            round,
            step: step.of(kind),
            stolen_percent: measured.stolen_percent,
            messages_per_block: measured.messages_per_block,
            report: measured.report,
        };
        let examined = kind.examined_per_delivered().map(|times| {
            let report = self.receive.report.counted(times);
            sample(Step::Examine, Measured { report, ..self.receive.clone() })
        });
        let both = [sample(Step::Send, self.send), sample(Step::Receive, self.receive)];
        both.into_iter().chain(examined).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser;

    use super::*;
    use crate::{
        kinds::{kind, rows},
        report,
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn measured(cpu_per_million: f64) -> Measured {
        let server = report::Server {
            cpu_seconds: Default::default(),
            cpu_per_million: Some(cpu_per_million),
            cpu_percent: 0.0,
            resident_bytes: 0,
            resident_growth_bytes: 0,
            resident_peak_bytes: 0,
            written_bytes: None,
        };
        let report = Report {
            scenario: "send",
            messages: 10,
            seconds: 1.0,
            rate: 10.0,
            errors: 0,
            first_error: None,
            latency: BTreeMap::new(),
            server: Some(server),
            generator_cpu_per_million: None,
        };
        Measured { report, stolen_percent: 0.0, messages_per_block: None }
    }

    #[test]
    fn every_kind_stands_beside_the_normal_one_of_its_round() {
        let kinds = kind::all(&Line::parse_from(["kinds"]).options);
        let played = |round: u32| {
            let cost = f64::from(round + 1);
            let cost_of = move |kind: &Kind| if kind.name == "normal" { cost } else { 2.0 * cost };
            kinds.iter().flat_map(move |kind| {
                Played { send: measured(cost_of(kind)), receive: measured(5.0 * cost_of(kind)) }.samples(kind, round)
            })
        };
        let rows = rows(&kinds, &(0..3).flat_map(played).collect::<Vec<_>>());
        let medians: BTreeMap<_, _> = rows.iter().map(|row| (row.name.as_str(), row.rounds.as_slice())).collect();
        assert_eq!(medians["FIFO: send / normal: send"], [2.0; 3]);
        assert_eq!(medians["transaction: half + commit / normal: send"], [2.0; 3]);
        assert_eq!(medians["tag filter: receive + ack, by delivered / normal: receive + ack"], [2.0; 3]);
        assert_eq!(medians["tag filter: receive + ack, by examined / normal: receive + ack"], [0.02; 3]);
        // Two for each, and one more for each filter.
        assert_eq!(medians.len(), 2 * (kinds.len() - 1) + 2);
    }

    #[tokio::test]
    async fn messages_that_became_due_too_early_are_an_error() {
        assert!(wait_until_nearly(SystemTime::now() + EARLY).await.is_ok());
        assert!(wait_until_nearly(SystemTime::now() - EARLY).await.is_err());
    }
}
