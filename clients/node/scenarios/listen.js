// Push consumers that report every call of their listener until standard input says `stop`.
import { ConsumeResult, ConsumeResultSuspend, litePushConsumer, pushConsumer } from '../clients.js';
import { commands, stopped } from '../input.js';
import { fields } from '../messages.js';
import { step, success } from '../output.js';

export async function listen(args) {
  const consumer = await step('start', () => pushConsumer(args, failing(args)));
  success('ready');
  await stopped();
  await step('stop', () => consumer.shutdown());
  success('end');
}

// The same for the lite topics in `subscribe`; a line `unsubscribe <lite topic>` ends one of them.
export async function listenLite(args) {
  const consumer = await step('start', () => litePushConsumer(args, failing(args)));
  for (const liteTopic of args.words('subscribe')) {
    await step('subscribe', () => consumer.subscribeLite(liteTopic));
  }
  success('ready');
  for await (const [, liteTopic] of commands()) {
    await step('unsubscribed', () => consumer.unsubscribeLite(liteTopic));
    success('unsubscribed', { lite_topic: liteTopic });
  }
  await step('stop', () => consumer.close());
  success('end');
}

// A listener that fails message `fail` the first `times` times and takes everything else.
// With `suspend_ms` it does not fail it, but has its lite topic wait.
function failing(args) {
  const fail = args.text('fail', 'none');
  const suspendMs = args.number('suspend_ms', 0);
  const failure = suspendMs > 0 ? ConsumeResultSuspend.of(suspendMs) : ConsumeResult.FAILURE;
  let left = args.number('times', 1);
  return message => {
    success('attempt', { message: fields(message) });
    if (message.properties.get('number') === fail && left > 0) {
      left -= 1;
      return failure;
    }
    return ConsumeResult.SUCCESS;
  };
}
