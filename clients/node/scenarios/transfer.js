// The two halves of an exchange between languages: send numbered messages, read messages of anybody.
import { producer, simpleConsumer } from '../clients.js';
import { sendInTurn } from '../kinds.js';
import { fields } from '../messages.js';
import { msSince, step, success } from '../output.js';

const AWAIT_MS = 6_000;
const INVISIBLE_MS = 30_000;

export async function send(args) {
  const sender = await step('start', () => producer(args, [args.topic]));
  const first = args.number('first', 0);
  for (let number = first; number < first + args.number('count', 1); number++) {
    success('sent', await step('sent', () => sendInTurn(args, sender, number)));
  }
  await step('stop', () => sender.shutdown());
  success('end');
}

export async function read(args) {
  const consumer = await step('start', () => simpleConsumer(args, AWAIT_MS));
  success('ready');
  const start = performance.now();
  const ids = new Set();
  while (ids.size < args.number('expect', 1) && msSince(start) < args.number('timeout_s', 60) * 1000) {
    const messages = await step('read', () => consumer.receive(16, INVISIBLE_MS));
    for (const message of messages) {
      await step('ack', () => consumer.ack(message));
      ids.add(message.messageId);
      success('read', { message: fields(message) });
    }
  }
  await step('stop', () => consumer.shutdown());
  success('end', { count: ids.size });
}
