// Drives the official Node.js client: program.js <endpoint> <scenario> [key=value ...].
import { parseArguments } from './arguments.js';
import { failure, StepFailed } from './output.js';
import { basic } from './scenarios/basic.js';
import { hold } from './scenarios/hold.js';
import { listen, listenLite } from './scenarios/listen.js';
import { recall } from './scenarios/recall.js';
import { retry } from './scenarios/retry.js';
import { survive } from './scenarios/survive.js';
import { topics } from './scenarios/topics.js';
import { transaction } from './scenarios/transaction.js';
import { read, send } from './scenarios/transfer.js';
import { unknown } from './scenarios/unknown.js';

const SCENARIOS = {
  basic,
  unknown,
  send,
  read,
  listen,
  'listen-lite': listenLite,
  hold,
  retry,
  recall,
  topics,
  transaction,
  survive,
};

// Runs one scenario and returns the exit code: 0 done, 1 a step failed, 2 wrong command line.
async function main(words) {
  let args;
  try {
    args = parseArguments(words);
  } catch (wrong) {
    console.error(wrong.message);
    return 2;
  }
  if (!Object.hasOwn(SCENARIOS, args.scenario)) {
    console.error(`there is no scenario named ${args.scenario}`);
    return 2;
  }
  try {
    await SCENARIOS[args.scenario](args);
  } catch (error) {
    failure(error instanceof StepFailed ? error.step : 'program', error.cause ?? error);
    return 1;
  }
  return 0;
}

// Timers and connections of the client that are still ending must not keep the process.
process.exit(await main(process.argv.slice(2)));
