//! Questions to clients and their answers, which come back on telemetry streams whenever the
//! client likes, or never. An answer is told from another by a nonce.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use centaur_apis::v2;
use tokio::{sync::oneshot, time::timeout};

use super::{Session, Unheard};

/// How long a client may take to answer; source: public contract, server-initiated commands.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions under way at once.
const QUESTIONS_MAX: usize = 1_024;

/// What a client answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    /// Some clients leave it out.
    pub(crate) status: Option<v2::Status>,
    /// A stack trace, if it was asked for one.
    pub(crate) text: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    Unheard(Unheard),
    /// The client said nothing for 5 s, or its stream ended.
    Silent,
    /// As many questions as there may be are under way.
    Busy,
}

/// Questions that wait for their answers.
#[derive(Debug)]
pub(crate) struct Questions {
    /// Tells the nonces of this proxy from those of one before it.
    era: u64,
    asked: AtomicU64,
    waiting: Mutex<HashMap<String, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    client: String,
    reply: oneshot::Sender<Answer>,
}

impl Questions {
    /// `era` is any number that the proxy before this one did not have.
    pub(crate) fn new(era: u64) -> Self {
        Self { era, asked: AtomicU64::new(0), waiting: Mutex::default() }
    }

    /// A text that no other question of this proxy has.
    pub(crate) fn nonce(&self) -> String {
        format!("{:x}-{}", self.era, self.asked.fetch_add(1, Ordering::Relaxed))
    }

    /// Asks a client something and waits for its answer, 5 s at most.
    ///
    /// Cancel: safe; an answer that comes later is passed over.
    pub(crate) async fn ask(
        &self,
        client: &str,
        session: &Session,
        question: impl FnOnce(String) -> v2::telemetry_command::Command,
    ) -> Result<Answer, Unanswered> {
        let nonce = self.nonce();
        let (reply, answer) = oneshot::channel();
        let asked = Asked { questions: self, nonce };
        if !self.wait_for(&asked.nonce, Waiting { client: client.to_owned(), reply }) {
            return Err(Unanswered::Busy);
        }
        let command = v2::TelemetryCommand { status: None, command: Some(question(asked.nonce.clone())) };
        session.command(command).map_err(Unanswered::Unheard)?;
        timeout(PATIENCE, answer).await.ok().and_then(Result::ok).ok_or(Unanswered::Silent)
    }

    /// Takes what may be an answer: of the client that was asked, with the nonce it was given.
    pub(crate) fn answered(&self, client: &str, nonce: &str, answer: Answer) {
        let mut waiting = self.waiting();
        if waiting.get(nonce).is_none_or(|waiting| waiting.client != client) {
            return;
        }
        if let Some(waiting) = waiting.remove(nonce) {
            // Whoever asked may have gone this moment.
            let _ = waiting.reply.send(answer);
        }
    }

    fn wait_for(&self, nonce: &str, question: Waiting) -> bool {
        let mut waiting = self.waiting();
        let has_room = waiting.len() < QUESTIONS_MAX;
        if has_room {
            waiting.insert(nonce.to_owned(), question);
        }
        has_room
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question under way, forgotten when nobody waits for it any more.
struct Asked<'a> {
    questions: &'a Questions,
    nonce: String,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.questions.waiting().remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use centaur_apis::v2::{PrintThreadStackTraceCommand, Settings, telemetry_command::Command};
    use futures_util::StreamExt as _;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        caller::Caller,
        sessions::{Sessions, Sign},
    };

    fn session() -> Arc<Session> {
        let caller = Caller { client: "c", language: "", version: "", remaining: None, peer: None };
        Sessions::new().enter(&caller, Sign::Seen).expect("room")
    }

    fn stack(nonce: String) -> Command {
        Command::PrintThreadStackTraceCommand(PrintThreadStackTraceCommand { nonce })
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_known_by_its_nonce_and_its_client() {
        let (questions, session) = (Questions::new(7), session());
        assert_eq!(questions.ask("c", &session, stack).await, Err(Unanswered::Unheard(Unheard::NoStream)));
        let (_, stream, mut heard) = Sessions::new().open_stream();
        session.settle(&Settings::default(), 0, &stream).expect("room");
        let answering = async {
            let told = heard.next().await.expect("a frame").expect("no error");
            let Some(Command::PrintThreadStackTraceCommand(asked)) = told.command else { panic!("{told:?}") };
            let text = |text: &str| Answer { text: text.to_owned(), status: None };
            questions.answered("c", "another", text("wrong nonce"));
            questions.answered("d", &asked.nonce, text("wrong client"));
            questions.answered("c", &asked.nonce, text("right"));
            questions.answered("c", &asked.nonce, text("again"));
        };
        let (answer, ()) = tokio::join!(questions.ask("c", &session, stack), answering);
        assert_eq!(answer.map(|answer| answer.text), Ok("right".to_owned()));
        assert!(questions.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_waited_for_5_s() {
        let (questions, session) = (Questions::new(7), session());
        let (_, stream, _heard) = Sessions::new().open_stream();
        session.settle(&Settings::default(), 0, &stream).expect("room");
        let began = Instant::now();
        assert_eq!(questions.ask("c", &session, stack).await, Err(Unanswered::Silent));
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(questions.waiting().is_empty());
    }
}
