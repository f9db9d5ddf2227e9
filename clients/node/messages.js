// The numbered test messages, the same in every language, and what a received one looks like in the output.

// Message `number` of a run: text beyond ASCII everywhere, and every byte value in the odd bodies.
export function numbered(topic, prefix, number) {
  return {
    topic,
    body: body(prefix, number),
    tag: `tag-${number}`,
    keys: [`${prefix}-key-${number}`, `${prefix}-schlüssel-${number}`],
    properties: new Map([
      ['number', String(number)],
      ['sender', `${prefix} Grüße 世界`],
    ]),
  };
}

function body(prefix, number) {
  const text = Buffer.from(`${prefix}-${number}: Grüße, 世界, 🚀`);
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, value) => value));
  return number % 2 === 1 ? Buffer.concat([text, everyByte]) : text;
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
