//! The command line: where the server is, what to do, and the settings of that.

use std::collections::HashMap;
use std::time::Duration;

pub struct Arguments {
    pub endpoint: String,
    pub scenario: String,
    settings: HashMap<String, String>,
}

impl Arguments {
    /// Reads the words of the command line; the error is a sentence for its writer.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (Some(endpoint), Some(scenario)) = (words.next(), words.next()) else {
            return Err("usage: <endpoint> <scenario> [key=value ...]".to_owned());
        };
        let settings = words.map(setting).collect::<Result<HashMap<_, _>, _>>()?;
        if settings.get("tls").is_some_and(|tls| tls == "on") {
            return Err("this client has no working TLS: leave tls=on away".to_owned());
        }
        Ok(Self { endpoint, scenario, settings })
    }

    pub fn topic(&self) -> &str {
        self.text("topic", "")
    }

    pub fn group(&self) -> &str {
        self.text("group", "")
    }

    pub fn prefix(&self) -> &str {
        self.text("prefix", "rust")
    }

    /// A list written with commas.
    pub fn words<'a>(&'a self, key: &str, otherwise: &'a str) -> Vec<&'a str> {
        self.text(key, otherwise).split(',').collect()
    }

    /// The word of a list whose turn it is at message `number`; the list begins again at its end.
    pub fn turn<'a>(&'a self, key: &str, number: usize, otherwise: &'a str) -> &'a str {
        let words = self.words(key, otherwise);
        words[number % words.len()]
    }

    /// A whole number; text that is none counts as not given.
    pub fn number(&self, key: &str, otherwise: usize) -> usize {
        self.settings.get(key).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    }

    pub fn seconds(&self, key: &str, otherwise: u64) -> Duration {
        let seconds = self.settings.get(key).and_then(|value| value.parse().ok());
        Duration::from_secs(seconds.unwrap_or(otherwise))
    }

    fn text<'a>(&'a self, key: &str, otherwise: &'a str) -> &'a str {
        self.settings.get(key).map_or(otherwise, String::as_str)
    }
}

fn setting(word: String) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("a setting is written key=value, not {word}")),
    }
}
