// Sending to a topic that does not exist must fail at once; the text holds the code.
import { producer } from '../clients.js';
import { numbered } from '../messages.js';
import { describe, msSince, step, StepFailed, success } from '../output.js';

export async function unknown(args) {
  const sender = await step('start', () => producer(args, []));
  const sending = performance.now();
  try {
    await sender.send(numbered(args.topic, args.prefix, 0));
  } catch (expected) {
    success('unknown', { ms: msSince(sending), text: describe(expected) });
    return;
  }
  throw new StepFailed('unknown', new Error('the message was accepted'));
}
