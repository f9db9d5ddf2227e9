//! Where values come from: defaults, then the file, the environment and flags, the later winning.
//! Every error of every source is reported, each with its place.

use std::{fmt, fs, path::PathBuf};

use clap::Args;

use crate::config::{Config, keys, toml_file};

/// Looked for in this order when no file is named.
const DEFAULT_FILES: [&str; 2] = ["centaur.toml", "/etc/centaur/centaur.toml"];
const PREFIX: &str = "CENTAUR_";
/// Variables with our prefix that are not keys: read by flags, or by the commands.
const OTHER_VARIABLES: [&str; 5] =
    ["CENTAUR_CONFIG", "CENTAUR_DEV", "CENTAUR_ROLES", "CENTAUR_ADDRESS", "CENTAUR_ENDPOINT"];

/// Flags that choose or override configuration.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Flags {
    /// TOML file; without it centaur.toml here, then /etc/centaur/centaur.toml, if they exist
    #[arg(short, long, value_name = "FILE", env = "CENTAUR_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// For a developer's machine: loopback only, topics come into being when used
    #[arg(long, env = "CENTAUR_DEV", value_parser = clap::builder::BoolishValueParser::new(),
          num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    pub(crate) dev: bool,
    /// Directory of everything durable [node.data_dir]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address of the client port [proxy.listen]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Address of the operators' port [operators.listen]
    #[arg(long, value_name = "ADDRESS")]
    operators_listen: Option<String>,
    /// host:port that clients are told [proxy.advertise]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,
    /// Name of the store group [store.group]
    #[arg(long, value_name = "NAME")]
    store_group: Option<String>,
    /// sync or async [store.flush]
    #[arg(long, value_name = "MODE")]
    flush: Option<String>,
    /// Such as info,store=debug [log.level]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text, json or auto [log.format]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any key of the configuration; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Flags {
    fn dedicated(&self) -> [(&'static str, &'static str, Option<&String>); 8] {
        [
            ("--data-dir", "node.data_dir", self.data_dir.as_ref()),
            ("--listen", "proxy.listen", self.listen.as_ref()),
            ("--operators-listen", "operators.listen", self.operators_listen.as_ref()),
            ("--advertise", "proxy.advertise", self.advertise.as_ref()),
            ("--store-group", "store.group", self.store_group.as_ref()),
            ("--flush", "store.flush", self.flush.as_ref()),
            ("--log-level", "log.level", self.log_level.as_ref()),
            ("--log-format", "log.format", self.log_format.as_ref()),
        ]
    }
}

/// A configuration, and who set what.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// Paths that were set, with the place that won.
    pub(crate) origins: Vec<(&'static str, String)>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
}

impl Loaded {
    /// Where the value of a key comes from.
    pub(crate) fn origin(&self, path: &str) -> &str {
        self.origins.iter().rev().find(|(known, _)| *known == path).map_or("default", |(_, origin)| origin)
    }
}

/// One thing that is wrong, with its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Puts the configuration together.
///
/// Errors: everything that is wrong in any source.
pub(crate) fn load(
    arguments: &Flags,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, Vec<Problem>> {
    let config = if arguments.dev { Config::dev() } else { Config::default() };
    let mut layers = Layers { loaded: Loaded { config, origins: Vec::new(), file: None }, problems: Vec::new() };
    layers.file(arguments);
    layers.environment(environment);
    layers.flags(arguments);
    layers.finish()
}

struct Layers {
    loaded: Loaded,
    problems: Vec<Problem>,
}

impl Layers {
    fn file(&mut self, arguments: &Flags) {
        let default = || DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.is_file());
        let Some(path) = arguments.config.clone().or_else(default) else { return };
        let name = path.display().to_string();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return self.problem(name, format!("cannot be read: {error}")),
        };
        let content = toml_file::read(&text);
        for (place, message) in content.errors {
            self.problem(format!("{name}:{}:{}", place.line, place.column), message);
        }
        for entry in content.entries {
            let place = format!("{name}:{}:{}", entry.place.line, entry.place.column);
            self.set(&entry.path, &entry.text, place);
        }
        self.loaded.file = Some(path);
    }

    fn environment(&mut self, environment: impl Iterator<Item = (String, String)>) {
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if value.is_empty() || OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let path = rest.to_ascii_lowercase().replace("__", ".");
            if keys::find(&path).is_none() {
                let nearest = keys::variable(keys::nearest(&path));
                self.problem(format!("environment {name}"), format!("no such key; the nearest is {nearest}"));
                continue;
            }
            self.set(&path, &value, format!("environment {name}"));
        }
    }

    fn flags(&mut self, arguments: &Flags) {
        for (flag, path, value) in arguments.dedicated() {
            if let Some(value) = value {
                self.set(path, value, flag.to_owned());
            }
        }
        for pair in &arguments.set {
            match pair.split_once('=') {
                Some((path, value)) => self.set(path.trim(), value, format!("--set {pair}")),
                None => self.problem(format!("--set {pair}"), "write it like --set store.flush=async".to_owned()),
            }
        }
    }

    fn set(&mut self, path: &str, text: &str, place: String) {
        let Some(key) = keys::find(path) else {
            let nearest = keys::nearest(path);
            return self.problem(place, format!("unknown key {path:?}; the nearest is {nearest:?}"));
        };
        match (key.set)(&mut self.loaded.config, text) {
            Ok(()) => self.loaded.origins.push((key.path, place)),
            Err(error) => self.problem(place, format!("{path}: {error}")),
        }
    }

    fn problem(&mut self, place: String, message: String) {
        self.problems.push(Problem { place, message });
    }

    fn finish(mut self) -> Result<Loaded, Vec<Problem>> {
        for (path, message) in self.loaded.config.conflicts() {
            let place = self.loaded.origin(path).to_owned();
            self.problem(place, format!("{path} {message}"));
        }
        if self.problems.is_empty() { Ok(self.loaded) } else { Err(self.problems) }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use super::*;

    fn file(text: &str) -> (tempfile::NamedTempFile, Flags) {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        let config = Some(file.path().to_owned());
        (file, Flags { config, ..Flags::default() })
    }

    fn environment(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> + use<> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn the_later_source_wins() {
        let (_file, mut arguments) =
            file("shutdown.timeout = \"11s\"\nlog.level = \"warn\"\n[topics]\ndefault_queues = 3\n");
        let variables =
            [("CENTAUR_SHUTDOWN__TIMEOUT", "12s"), ("CENTAUR_LOG__LEVEL", ""), ("CENTAUR_TOPICS__DEFAULT_QUEUES", "4")];
        arguments.set = vec!["topics.default_queues=5".into()];
        let loaded = load(&arguments, environment(&variables)).expect("no problem");
        assert_eq!(loaded.config.log.level, "warn", "an empty variable counts as unset");
        assert_eq!(loaded.config.shutdown.timeout, Duration::from_secs(12));
        assert_eq!(loaded.config.topics.default_queues, 5);
        assert_eq!(loaded.origin("shutdown.timeout"), "environment CENTAUR_SHUTDOWN__TIMEOUT");
        assert_eq!(loaded.origin("topics.default_queues"), "--set topics.default_queues=5");
        assert_eq!(loaded.origin("store.flush"), "default");
    }

    #[test]
    fn every_key_has_a_variable() {
        let (_file, arguments) = file("");
        for key in keys::KEYS {
            let value = (key.get)(&Config::default());
            let pair = [(keys::variable(key.path), value)];
            load(&arguments, pair.into_iter()).unwrap_or_else(|problems| panic!("{}: {problems:?}", key.path));
        }
    }

    #[test]
    fn all_problems_come_at_once() {
        let (file, mut arguments) =
            file("[store]\nflsh = \"sync\"\nsegment_size = \"1 parsec\"\n\n[nonsense.a]\nb = 1\n");
        arguments.set = vec!["proxy.tls.cert=/a".into(), "log.level".into()];
        let problems = load(&arguments, environment(&[("CENTAUR_STORE__FLSH", "x")])).expect_err("five problems");
        let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let name = file.path().display();
        assert!(
            text[0].starts_with(&format!("{name}:2:1: unknown key \"store.flsh\"; the nearest is \"store.flush\"")),
            "{text:?}"
        );
        assert!(text[1].starts_with(&format!("{name}:3:1: store.segment_size: \"1 parsec\"")), "{text:?}");
        assert!(text[2].starts_with(&format!("{name}:6:1: unknown key \"nonsense.a.b\"")), "{text:?}");
        assert!(text[3].contains("CENTAUR_STORE__FLUSH"), "{text:?}");
        assert_eq!(problems.len(), 6, "{text:?}");
    }

    #[test]
    fn a_named_file_must_exist() {
        let arguments = Flags { config: Some("/nonexistent/centaur.toml".into()), ..Flags::default() };
        assert!(load(&arguments, environment(&[])).is_err());
    }
}
