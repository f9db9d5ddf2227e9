// Sends and consumes until standard input says `stop`, whatever becomes of the server meanwhile.
import { setTimeout as sleep } from 'node:timers/promises';
import { ConsumeResult, producer, pushConsumer } from '../clients.js';
import { stopped } from '../input.js';
import { numbered } from '../messages.js';
import { describe, msSince, step, success } from '../output.js';

const PAUSE_MS = 20;

export async function survive(args) {
  const taken = new Set();
  const take = message => {
    success('acked', { id: message.messageId });
    taken.add(message.messageId);
    return ConsumeResult.SUCCESS;
  };
  const sender = await step('start', () => producer(args, [args.topic]));
  const consumer = await step('consumer', () => pushConsumer(args, take));
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
