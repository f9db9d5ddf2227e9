// One producer, one push consumer and one simple consumer of several topics.
import { ConsumeResult, producer, pushConsumer, simpleConsumer } from '../clients.js';
import { fields, numbered } from '../messages.js';
import { msSince, step, success } from '../output.js';

const AWAIT_MS = 6_000;
const INVISIBLE_MS = 30_000;

export async function topics(args) {
  const { push_group: pushGroup, simple_group: simpleGroup } = args.settings;
  const take = message => {
    success('attempt', { topic: message.topic, message: fields(message) });
    return ConsumeResult.SUCCESS;
  };
  const listener = await started('push', () => pushConsumer({ ...args, group: pushGroup }, take));
  const reader = await started('simple', () => simpleConsumer({ ...args, group: simpleGroup }, AWAIT_MS));
  const sender = await started('producer', () => producer(args, args.topics));
  for (const [number, topic] of args.topics.entries()) {
    const receipt = await step('sent', () => sender.send(numbered(topic, args.prefix, number)));
    success('sent', { topic, number, id: receipt.messageId });
  }
  await readAll(args, reader);
  await step('stop', async () => {
    await reader.shutdown();
    await listener.shutdown();
    await sender.shutdown();
  });
  success('end');
}

async function started(client, start) {
  const starting = performance.now();
  const running = await step('started', start);
  success('started', { client, ms: msSince(starting) });
  return running;
}

// Receives until there is one message of each topic; a receive asks for one topic after the other.
async function readAll(args, reader) {
  const ids = new Set();
  const start = performance.now();
  while (ids.size < args.topics.length && msSince(start) < args.number('timeout_s', 60) * 1000) {
    for (const message of await step('read', () => reader.receive(16, INVISIBLE_MS))) {
      await step('ack', () => reader.ack(message));
      ids.add(message.messageId);
      success('read', { topic: message.topic, message: fields(message) });
    }
  }
}
