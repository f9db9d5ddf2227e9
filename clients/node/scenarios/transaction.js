// Transactions with the ends in `ends`, in turn.
// Those named `open…` are left to the server, which asks until standard input says `stop`; what follows is what
// it is told: `open-unknown` is settled by the second question only.
import { producer, TransactionResolution } from '../clients.js';
import { stopped } from '../input.js';
import { fields, numbered } from '../messages.js';
import { step, success } from '../output.js';

const { COMMIT, ROLLBACK, TRANSACTION_RESOLUTION_UNSPECIFIED: UNKNOWN } = TransactionResolution;
const ENDS = {
  commit: transaction => transaction.commit(),
  rollback: transaction => transaction.rollback(),
  'open-commit': () => {},
  'open-rollback': () => {},
  'open-unknown': () => {},
};
const ANSWERS = {
  'open-commit': [COMMIT],
  'open-rollback': [ROLLBACK],
  'open-unknown': [UNKNOWN, COMMIT],
};

export async function transaction(args) {
  const ends = args.words('ends', Object.keys(ENDS).join(','));
  const sender = await step('start', () => producer(args, [args.topic], checker(ends)));
  for (const [number, end] of ends.entries()) {
    const begun = await step('begin', () => sender.beginTransaction());
    const receipt = await step('sent', () => sender.send(numbered(args.topic, args.prefix, number), begun));
    success('sent', { number, id: receipt.messageId, end });
    await step(end, () => ENDS[end](begun));
  }
  await stopped();
  await step('stop', () => sender.shutdown());
  success('end');
}

// Answers each question with the next word, and from then on with the last.
function checker(ends) {
  const answers = ends.map(end => [...(ANSWERS[end] ?? [UNKNOWN])]);
  return message => {
    success('checked', { message: fields(message) });
    const left = answers[Number(message.properties.get('number'))];
    return left.length > 1 ? left.shift() : left[0];
  };
}
