// Delayed messages are recalled: one in time, the same once more, and one when it has been delivered.
import { producer } from '../clients.js';
import { stopped } from '../input.js';
import { numbered } from '../messages.js';
import { describe, step, StepFailed, success } from '../output.js';

const LONG_MS = 20_000;
const SHORT_MS = 2_000;

export async function recall(args) {
  const sender = await step('start', () => producer(args, [args.topic]));
  const recallable = await sendDelayed(args, sender, 0, LONG_MS);
  for (const name of ['recalled', 'again']) {
    const receipt = await step(name, () => sender.recallMessage(args.topic, recallable));
    success(name, { id: receipt.messageId });
  }
  const delivered = await sendDelayed(args, sender, 1, SHORT_MS);
  // The runner says so when somebody has received it.
  await stopped();
  await recallTooLate(args, sender, delivered);
  await step('stop', () => sender.shutdown());
  success('end');
}

// Sends a message that is due in `delayMs`; returns its recall handle.
async function sendDelayed(args, sender, number, delayMs) {
  const deliveryTimestamp = new Date(Date.now() + delayMs);
  const message = { ...numbered(args.topic, args.prefix, number), deliveryTimestamp };
  const receipt = await step('sent', () => sender.send(message));
  success('sent', { number, id: receipt.messageId, due_ms: deliveryTimestamp.getTime() });
  return receipt.recallHandle;
}

async function recallTooLate(args, sender, handle) {
  try {
    await sender.recallMessage(args.topic, handle);
  } catch (expected) {
    success('late', { text: describe(expected) });
    return;
  }
  throw new StepFailed('late', new Error('the message was recalled'));
}
