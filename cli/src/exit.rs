//! How the program ends: exit codes that scripts can rely on, and errors that say what to do.

use std::process::ExitCode;

use serde_json::json;

/// What an exit code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// An unexpected failure, or a stop that was not clean.
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    /// It exists already, or is not in the state the command needs.
    Precondition = 4,
    Forbidden = 5,
    Unreachable = 6,
    TimedOut = 7,
    /// Some of it was done.
    Partly = 8,
    /// A destructive command was not confirmed.
    Unconfirmed = 10,
    /// Refused by the server.
    Invalid = 11,
    Overloaded = 12,
    Unsupported = 13,
    PortInUse = 69,
    /// The log could not be written while running; nothing more is acknowledged.
    StorageFailed = 71,
    DataDirectory = 73,
    DiskError = 74,
    Locked = 75,
    NewerData = 76,
    Config = 78,
}

/// Why a command ends without having done what it should.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// One sentence.
    pub(crate) cause: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// A word for programs, such as TOPIC_NOT_FOUND.
    pub(crate) code: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, cause: impl Into<String>) -> Self {
        Self { exit, cause: cause.into(), hint: None, code: None }
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a word for programs.
    pub(crate) fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Prints it to standard error and gives the exit code.
    pub(crate) fn report(&self, as_json: bool) -> ExitCode {
        if as_json {
            let code = self.code.clone().unwrap_or_else(|| format!("{:?}", self.exit));
            eprintln!("{}", json!({ "error": { "code": code, "message": self.cause, "hint": self.hint } }));
        } else {
            eprintln!("error: {}", self.cause);
            if let Some(hint) = &self.hint {
                eprintln!("hint: {hint}");
            }
        }
        ExitCode::from(self.exit as u8)
    }
}
