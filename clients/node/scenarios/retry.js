// A simple consumer that gives a message back soon, takes it again, and acknowledges it.
import { simpleConsumer } from '../clients.js';
import { fields } from '../messages.js';
import { step, StepFailed, success } from '../output.js';

const AWAIT_MS = 12_000;
const INVISIBLE_MS = 60_000;
const RETURNED_MS = 2_000;

export async function retry(args) {
  const consumer = await step('start', () => simpleConsumer(args, AWAIT_MS));
  const first = await attempt(consumer);
  await step('returned', () => consumer.changeInvisibleDuration(first, RETURNED_MS));
  success('returned');
  const second = await attempt(consumer);
  await step('ack', () => consumer.ack(second));
  success('ack');
  await step('stop', () => consumer.shutdown());
  success('end');
}

async function attempt(consumer) {
  const [message] = await step('attempt', () => consumer.receive(1, INVISIBLE_MS));
  if (message === undefined) {
    throw new StepFailed('attempt', new Error('nothing was received'));
  }
  success('attempt', { message: fields(message) });
  return message;
}
