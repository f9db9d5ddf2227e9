// A simple consumer that takes messages one by one and keeps them, until it is given no more.
// Then it settles the first of them and looks for what that sets free.
import { simpleConsumer } from '../clients.js';
import { fields } from '../messages.js';
import { step, StepFailed, success } from '../output.js';

const AWAIT_MS = 6_000;
const INVISIBLE_MS = 60_000;

export async function hold(args) {
  const consumer = await step('start', () => simpleConsumer(args, AWAIT_MS));
  const receiveOne = name => step(name, () => consumer.receive(1, INVISIBLE_MS));
  const held = [];
  for (let received = await receiveOne('held'); received.length > 0; received = await receiveOne('held')) {
    held.push(...received);
    success('held', { message: fields(received[0]) });
  }
  if (held.length === 0) {
    throw new StepFailed('held', new Error('nothing was received'));
  }
  success('empty');
  await step('ack', () => consumer.ack(held[0]));
  success('ack', { id: held[0].messageId });
  for (const message of await receiveOne('freed')) {
    success('freed', { message: fields(message) });
  }
  await step('stop', () => consumer.shutdown());
  success('end');
}
