//! Producers and consumers for one server, started when they are returned.

use std::time::Duration;

use rocketmq::conf::{ClientOption, ProducerOption, SimpleConsumerOption};
use rocketmq::error::ClientError;
use rocketmq::model::common::{FilterExpression, FilterType};
use rocketmq::model::message::MessageView;
use rocketmq::model::transaction::TransactionResolution;
use rocketmq::{Producer, SimpleConsumer};

use crate::arguments::Arguments;

pub async fn producer(arguments: &Arguments, topics: &[&str]) -> Result<Producer, ClientError> {
    checked_producer(arguments, topics, |_| TransactionResolution::COMMIT).await
}

/// A producer that answers the server's questions about its transactions with `check`.
pub async fn checked_producer(
    arguments: &Arguments,
    topics: &[&str],
    check: impl Fn(&MessageView) -> TransactionResolution + Send + Sync + 'static,
) -> Result<Producer, ClientError> {
    let mut option = ProducerOption::default();
    option.set_topics(topics.to_vec());
    let checker = move |_, message| check(&message);
    let mut producer = Producer::new_transaction_producer(option, common(arguments), Box::new(checker))?;
    producer.start().await?;
    Ok(producer)
}

/// `poll` is both how long a receive waits for a message and the deadline of its call.
pub async fn simple_consumer(arguments: &Arguments, poll: Duration) -> Result<SimpleConsumer, ClientError> {
    let mut option = SimpleConsumerOption::default();
    option.set_topics(vec![arguments.topic()]);
    option.set_consumer_group(arguments.group());
    let mut client = common(arguments);
    client.set_long_polling_timeout(poll);
    let mut consumer = SimpleConsumer::new(option, client)?;
    consumer.start().await?;
    Ok(consumer)
}

pub async fn receive(
    consumer: &SimpleConsumer,
    topic: &str,
    invisible: Duration,
) -> Result<Vec<MessageView>, ClientError> {
    receive_up_to(consumer, topic, 16, invisible).await
}

pub async fn receive_up_to(
    consumer: &SimpleConsumer,
    topic: &str,
    count: i32,
    invisible: Duration,
) -> Result<Vec<MessageView>, ClientError> {
    let everything = FilterExpression::new(FilterType::Tag, "*");
    consumer.receive_with(topic, &everything, count, invisible).await
}

fn common(arguments: &Arguments) -> ClientOption {
    let mut option = ClientOption::default();
    option.set_access_url(&arguments.endpoint);
    option.set_enable_tls(false);
    option
}
