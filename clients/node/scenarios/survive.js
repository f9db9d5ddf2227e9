// Sends and consumes until standard input says `stop`, whatever becomes of the server meanwhile.
// It consumes with a push consumer, or with `consume=simple` with a simple one.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConsumeResult, producer, pushConsumer, simpleConsumer } from '../clients.js';
import { stopped } from '../input.js';
import { numbered } from '../messages.js';
import { describe, msSince, step, success } from '../output.js';

const PAUSE_MS = 20;
const AWAIT_MS = 6_000;
const INVISIBLE_MS = 15_000;

export async function survive(args) {
  const taken = new Set();
  const take = message => {
    success('acked', { id: message.messageId });
    taken.add(message.messageId);
    return ConsumeResult.SUCCESS;
  };
  const sender = await step('start', () => producer(args, [args.topic]));
  const isSimple = args.text('consume', 'push') === 'simple';
  const consumer = await step('consumer', () => isSimple ? simpleConsumer(args, AWAIT_MS) : pushConsumer(args, take));
  if (isSimple) {
    receive(consumer, take);
  }
  success('ready');
  const sent = await sendUntilStopped(args, sender);
  const start = performance.now();
  while (![...sent].every(id => taken.has(id)) && msSince(start) < args.number('drain_s', 60) * 1000) {
    await sleep(PAUSE_MS);
  }
  success('end', { sent: sent.size, acked: taken.size });
  await step('stop', async () => {
    await consumer.shutdown();
    await sender.shutdown();
  });
}

async function receive(consumer, take) {
  for (;;) {
    try {
      for (const message of await consumer.receive(16, INVISIBLE_MS)) {
        // Whether an ack that failed was heard is unknown: what was received counts.
        take(message);
        await consumer.ack(message);
      }
    } catch (error) {
      success('retry', { error: describe(error) });
      await sleep(PAUSE_MS);
    }
  }
}

async function sendUntilStopped(args, sender) {
  let done = false;
  stopped().then(() => { done = true; });
  const sent = new Set();
  for (let number = 0; !done; number++) {
    try {
      const receipt = await sender.send(numbered(args.topic, args.prefix, number));
      sent.add(receipt.messageId);
      success('sent', { id: receipt.messageId });
    } catch (error) {
      success('retry', { error: describe(error) });
    }
    await sleep(PAUSE_MS);
  }
  return sent;
}
