// Producers and consumers for one server, started when they are returned.
import client from 'rocketmq-client-nodejs';

export const { ConsumeResult } = client;

function common(args) {
  return { endpoints: args.endpoint, namespace: '', sslEnabled: args.tls };
}

export async function producer(args, topics) {
  const started = new client.Producer({ ...common(args), topics });
  await started.startup();
  return started;
}

export async function simpleConsumer(args, awaitMs) {
  const started = new client.SimpleConsumer({
    ...common(args),
    consumerGroup: args.group,
    subscriptions: new Map([[args.topic, '*']]),
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
    subscriptions: new Map([[args.topic, '*']]),
    messageListener: { consume: take },
  });
  await started.startup();
  return started;
}
