// One message there and back through a producer and a simple consumer, every call once.
import { producer, simpleConsumer } from '../clients.js';
import { fields, numbered } from '../messages.js';
import { msSince, step, success } from '../output.js';

const INVISIBLE_MS = 10_000;
const EXTENDED_MS = 60_000;

export async function basic(args) {
  const sender = await start(args);
  await send(args, sender);
  const consumer = await step('consumer', () => simpleConsumer(args, args.number('await_s', 12) * 1000));
  const message = await receiveAndExtend(consumer);
  await receiveNothing(consumer);
  await step('ack', () => consumer.ack(message));
  success('ack');
  const stopping = performance.now();
  await step('stop', async () => {
    await consumer.shutdown();
    await sender.shutdown();
  });
  success('stop', { ms: msSince(stopping) });
}

async function start(args) {
  const starting = performance.now();
  const sender = await step('start', () => producer(args, [args.topic]));
  success('start', { ms: msSince(starting) });
  return sender;
}

async function send(args, sender) {
  const sending = performance.now();
  const receipt = await step('send', () => sender.send(numbered(args.topic, args.prefix, 0)));
  success('send', { id: receipt.messageId, ms: msSince(sending) });
}

async function receiveAndExtend(consumer) {
  const message = await step('receive', async () => {
    const messages = await consumer.receive(16, INVISIBLE_MS);
    if (messages.length !== 1) {
      throw new Error(`expected one message, got ${messages.length}`);
    }
    return messages[0];
  });
  success('receive', { message: fields(message) });
  await step('extend', () => consumer.changeInvisibleDuration(message, EXTENDED_MS));
  success('extend');
  return message;
}

async function receiveNothing(consumer) {
  const waiting = performance.now();
  const messages = await step('empty', () => consumer.receive(16, INVISIBLE_MS));
  success('empty', { ms: msSince(waiting), count: messages.length });
}
