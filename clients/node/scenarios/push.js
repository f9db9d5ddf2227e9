// A push consumer whose listener fails the first attempt and takes the second.
import { ConsumeResult, producer, pushConsumer } from '../clients.js';
import { fields, numbered } from '../messages.js';
import { step, success } from '../output.js';

export async function push(args) {
  let calls = 0;
  let second;
  const taken = new Promise(resolve => { second = resolve; });
  const take = message => {
    calls += 1;
    success('attempt', { message: fields(message) });
    if (calls === 1) {
      return ConsumeResult.FAILURE;
    }
    second(true);
    return ConsumeResult.SUCCESS;
  };
  const sender = await step('start', () => producer(args, [args.topic]));
  const consumer = await step('consumer', () => pushConsumer(args, take));
  const receipt = await step('send', () => sender.send(numbered(args.topic, args.prefix, 0)));
  success('send', { id: receipt.messageId });
  await step('attempt', async () => {
    const timeoutS = args.number('timeout_s', 60);
    const late = new Promise(resolve => setTimeout(resolve, timeoutS * 1000, false));
    if (!await Promise.race([taken, late])) {
      throw new Error(`the listener was called ${calls} times in ${timeoutS} s`);
    }
  });
  await step('stop', async () => {
    await consumer.shutdown();
    await sender.shutdown();
  });
  success('end');
}
