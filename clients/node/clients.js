// Producers and consumers for one server, started when they are returned.
import client from 'rocketmq-client-nodejs';
import contract from 'rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb.js';

export const { ConsumeResult, ConsumeResultSuspend } = client;
export const { TransactionResolution } = contract;

function common(args) {
  return { endpoints: args.endpoint, namespace: '', sslEnabled: args.tls };
}

// A producer that answers the server's questions about its transactions with what `check(message)` gives.
export async function producer(args, topics, check = () => TransactionResolution.COMMIT) {
  const checker = { check: async message => check(message) };
  const started = new client.Producer({ ...common(args), topics, checker });
  await started.startup();
  return started;
}

export async function simpleConsumer(args, awaitMs) {
  const started = new client.SimpleConsumer({
    ...common(args),
    consumerGroup: args.group,
    subscriptions: new Map(args.topics.map(topic => [topic, '*'])),
    awaitDuration: awaitMs,
  });
  await started.startup();
  return started;
}

// A push consumer that calls `take(message)` and returns its ConsumeResult.
export async function pushConsumer(args, take) {
  const started = new client.PushConsumer({
    ...common(args),
    consumerGroup: args.group,
    subscriptions: new Map(args.topics.map(topic => [topic, '*'])),
    messageListener: { consume: take },
  });
  await started.startup();
  return started;
}

// The same for lite topics, of which none is subscribed to yet.
export function litePushConsumer(args, take) {
  return new client.LitePushConsumerBuilder()
    .setClientConfiguration(common(args))
    .setConsumerGroup(args.group)
    .bindTopic(args.topic)
    .setMessageListener({ consume: take })
    .build();
}
