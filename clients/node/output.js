// One line of JSON per step on standard output.
import { writeSync } from 'node:fs';

// One step of a scenario ended with an error, which is the cause of this one.
export class StepFailed extends Error {
  constructor(step, cause) {
    super(step, { cause });
    this.step = step;
  }
}

// Takes a step and gives every error the name of the step.
export async function step(name, take) {
  try {
    return await take();
  } catch (error) {
    throw error instanceof StepFailed ? error : new StepFailed(name, error);
  }
}

// Reports a step that went well.
export function success(name, fields = {}) {
  print({ step: name, ok: true, ...fields });
}

// Reports the step that ended the scenario.
export function failure(name, error) {
  print({ step: name, ok: false, error: describe(error) });
}

// An error and its causes in one text.
export function describe(error) {
  return error.cause ? `${error.message}; because of ${describe(error.cause)}` : String(error.message ?? error);
}

// Whole milliseconds since a value of performance.now().
export function msSince(start) {
  return Math.round(performance.now() - start);
}

// Written at once: lines still in a buffer would be lost when the process exits.
function print(line) {
  let rest = Buffer.from(`${JSON.stringify(line)}\n`);
  while (rest.length > 0) {
    rest = rest.subarray(writeSync(1, rest));
  }
}
