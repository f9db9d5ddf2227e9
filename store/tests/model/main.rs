//! Random commands against a store and against a model of it, with restarts and crashes in between:
//! everything that can be observed has to agree.
//!
//! `CENTAUR_MODEL_RUNS` sets how many sequences are tried, `CENTAUR_MODEL_SEED` with which seed
//! they begin, `CENTAUR_MODEL_STEPS` how long each is: up to about 1000, in which less time passes than
//! it takes retention to dead-letter what a group leaves unfinished. A failure tells the seed and the
//! last commands.

mod command;
mod driver;
#[path = "../harness/mod.rs"]
mod harness;
mod reference;

use std::{collections::VecDeque, thread};

use driver::Driver;
use harness::setting;

/// Commands shown with a failure.
const SHOWN: usize = 25;

/// Tells how to see a failure again.
struct Story {
    seed: u64,
    commands: VecDeque<String>,
}

impl Story {
    fn tell(&mut self, command: String) {
        self.commands.push_back(command);
        if self.commands.len() > SHOWN {
            self.commands.pop_front();
        }
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("to see it again: CENTAUR_MODEL_SEED={} CENTAUR_MODEL_RUNS=1", self.seed);
            eprintln!("the last commands, the failing one last:");
            self.commands.iter().for_each(|command| eprintln!("  {command}"));
        }
    }
}

#[test]
fn a_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = setting("CENTAUR_MODEL_SEED", 1);
    let steps = setting("CENTAUR_MODEL_STEPS", 300);
    for seed in first..first + setting("CENTAUR_MODEL_RUNS", 80) {
        let mut story = Story { seed, commands: VecDeque::new() };
        runtime.block_on(async {
            let mut driver = Driver::new(seed);
            driver.begin().await;
            for _ in 0..steps {
                let command = driver.choose();
                story.tell(format!("{command:?}"));
                driver.carry_out(command).await;
            }
            driver.drain().await;
        });
    }
}
