// Messages of every kind: what makes a numbered message one of a kind, and how it is sent.
import { numbered } from './messages.js';

// What the message options of each kind have besides those of a numbered message.
const OPTIONS = {
  normal: () => ({}),
  fifo: (args, number) => ({ messageGroup: args.turn('groups', number) }),
  delay: (args, number) => ({ deliveryTimestamp: new Date(Date.now() + args.turn('delays_s', number) * 1000) }),
  priority: (args, number) => ({ priority: Number(args.turn('priorities', number)) }),
  lite: (args, number) => ({ liteTopic: args.turn('lites', number) }),
  transaction: () => ({}),
};

// Sends message `number` as the kind whose turn it is; returns the fields of its step.
export async function sendInTurn(args, sender, number) {
  const kind = args.turn('kinds', number, 'normal');
  if (!Object.hasOwn(OPTIONS, kind)) {
    throw new Error(`there is no kind named ${kind}`);
  }
  const plain = numbered(args.topic, args.prefix, number, args.number('body_bytes', 0));
  const message = { ...plain, ...OPTIONS[kind](args, number) };
  const transaction = kind === 'transaction' ? sender.beginTransaction() : undefined;
  const receipt = await sender.send(message, transaction);
  await transaction?.commit();
  return { number, id: receipt.messageId, due_ms: message.deliveryTimestamp?.getTime() };
}
