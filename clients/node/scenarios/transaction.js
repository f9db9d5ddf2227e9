// Transactions with the ends in `ends`, in turn: commit, rollback, open.
// An open one is left to the server, which asks until standard input says `stop`.
import { producer } from '../clients.js';
import { stopped } from '../input.js';
import { fields, numbered } from '../messages.js';
import { step, success } from '../output.js';

const ENDS = {
  commit: transaction => transaction.commit(),
  rollback: transaction => transaction.rollback(),
  open: () => {},
};

export async function transaction(args) {
  const checked = message => success('checked', { message: fields(message) });
  const sender = await step('start', () => producer(args, [args.topic], checked));
  for (const [number, end] of args.words('ends', 'commit,rollback,open').entries()) {
    const begun = await step('begin', () => sender.beginTransaction());
    const receipt = await step('sent', () => sender.send(numbered(args.topic, args.prefix, number), begun));
    success('sent', { number, id: receipt.messageId, end });
    await step(end, () => ENDS[end](begun));
  }
  await stopped();
  await step('stop', () => sender.shutdown());
  success('end');
}
