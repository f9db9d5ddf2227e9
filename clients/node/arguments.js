// The command line: where the server is, what to do, and the settings of that.

// Reads the words of the command line; a malformed one is an Error.
export function parseArguments(words) {
  if (words.length < 2) {
    throw new Error('usage: <endpoint> <scenario> [key=value ...]');
  }
  const [endpoint, scenario, ...settings] = words;
  const values = Object.fromEntries(settings.map(parseSetting));
  const list = (key, otherwise = '') => (values[key] ?? otherwise).split(',');
  return {
    endpoint,
    scenario,
    topic: values.topic,
    topics: list('topic'),
    group: values.group,
    prefix: values.prefix ?? 'node',
    tls: values.tls === 'on',
    settings: values,
    text: (key, otherwise) => values[key] ?? otherwise,
    number: (key, otherwise) => Number(values[key] ?? otherwise),
    // A list written with commas.
    words: list,
    // The word of a list whose turn it is at message `number`; the list begins again at its end.
    turn: (key, number, otherwise) => {
      const choice = list(key, otherwise);
      return choice[number % choice.length];
    },
  };
}

function parseSetting(word) {
  const equals = word.indexOf('=');
  if (equals < 1) {
    throw new Error(`a setting is written key=value, not ${word}`);
  }
  return [word.slice(0, equals), word.slice(equals + 1)];
}
