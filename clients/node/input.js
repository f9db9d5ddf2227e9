// What the runner says to a program while it runs: one command per line of standard input.
import { createInterface } from 'node:readline';

// The words of each line, until one says `stop` or the input ends.
export async function* commands() {
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === 'stop') {
      return;
    }
    yield line.split(' ');
  }
}

export async function stopped() {
  const rest = commands();
  let command = await rest.next();
  while (!command.done) {
    command = await rest.next();
  }
}
