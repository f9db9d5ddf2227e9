// The numbered test messages, the same in every language, and what a received one looks like in the output.

// Message `number` of a run: text beyond ASCII everywhere, and every byte value in the odd bodies.
// A body that is shorter than `bodyBytes` is filled up with every byte value in turn.
export function numbered(topic, prefix, number, bodyBytes = 0) {
  return {
    topic,
    body: body(prefix, number, bodyBytes),
    tag: `tag-${number}`,
    keys: [`${prefix}-key-${number}`, `${prefix}-schlüssel-${number}`],
    properties: new Map([
      ['number', String(number)],
      ['sender', `${prefix} Grüße 世界`],
    ]),
  };
}

function body(prefix, number, bodyBytes) {
  const text = Buffer.from(`${prefix}-${number}: Grüße, 世界, 🚀`);
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
  const short = number % 2 === 1 ? Buffer.concat([text, everyByte]) : text;
  const rest = Buffer.alloc(Math.max(0, bodyBytes - short.length), everyByte);
  return Buffer.concat([short, rest]);
}

// Every field of a received message that a sender can set or a server must add.
export function fields(message) {
  return {
    id: message.messageId,
    body: message.body.toString('base64'),
    tag: message.tag,
    keys: message.keys,
    properties: Object.fromEntries(message.properties),
    born_host: message.bornHost,
    attempt: message.deliveryAttempt,
    group: message.messageGroup ?? null,
    due_ms: message.deliveryTimestamp?.getTime() ?? null,
    priority: message.priority ?? null,
    lite_topic: message.liteTopic ?? null,
  };
}
