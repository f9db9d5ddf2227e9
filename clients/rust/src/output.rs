//! One line of JSON per step on standard output.

use std::fmt::Display;
use std::time::Instant;

use serde_json::{Value, json};

/// The step that ended a scenario, and why.
pub struct StepFailed {
    pub step: &'static str,
    pub error: String,
}

pub type StepResult<T> = Result<T, StepFailed>;

impl StepFailed {
    pub fn new(step: &'static str, error: impl Display) -> Self {
        Self { step, error: error.to_string() }
    }
}

/// Gives an error the name of the step it ended.
pub trait InStep<T> {
    fn in_step(self, step: &'static str) -> StepResult<T>;
}

impl<T, E: Display> InStep<T> for Result<T, E> {
    fn in_step(self, step: &'static str) -> StepResult<T> {
        self.map_err(|error| StepFailed::new(step, error))
    }
}

/// Reports a step that went well; `fields` is an object.
pub fn success(step: &str, fields: Value) {
    let mut line = json!({ "step": step, "ok": true });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    println!("{line}");
}

/// Reports the step that ended the scenario.
pub fn failure(step: &str, error: &str) {
    println!("{}", json!({ "step": step, "ok": false, "error": error }));
}

pub fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
