//! Dead letters on their way back to their topics, each once.

use centaur_apis::{
    log::{Redriven, control::Event},
    names::DEAD_LETTER_PREFIX,
    store::{self, Error, Reason, RedriveRequest, RedriveResult, redrive_result::Outcome},
};

use super::{Found, Machine, consume::damaged, origin::Revived, produce::topic_not_found};
use crate::{
    log::record::{Message, Place},
    metrics,
    state::{index::QueueKey, offsets, topics::Topic},
};

/// Dead letters of one call.
const LETTERS_MAX: usize = 64;

/// A place that was asked for, and where its dead letter is in the log; `None`: there is none.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    pub place: store::Place,
    pub found: Option<Found>,
}

/// A place that was asked for, and the dead letter there.
#[derive(Clone, Debug)]
pub struct Letter {
    pub place: store::Place,
    pub message: Option<Message>,
}

impl Machine {
    /// Finds dead letters, so that they can be read.
    pub fn find_letters(&mut self, request: &RedriveRequest) -> Result<Vec<Chosen>, Error> {
        let asked = request.places.len();
        if asked > LETTERS_MAX {
            let sentence = format!("places has {asked} entries; at most {LETTERS_MAX} are allowed");
            return Err(Error::new(Reason::Invalid, sentence));
        }
        let topic = self.grave(&request.group)?.settings.id;
        let mut chosen = Vec::with_capacity(asked);
        for place in &request.places {
            let key = QueueKey { topic, queue: place.queue };
            let entry = self.state.index.get(key, place.offset).map_err(|error| damaged(&error))?;
            let found = entry.map(|entry| Found::new(place.queue, place.offset, entry));
            chosen.push(Chosen { place: *place, found });
        }
        Ok(chosen)
    }

    /// Sends dead letters again that were not sent before; each has its own outcome.
    pub fn redrive(&mut self, group: &str, letters: Vec<Letter>, dry_run: bool) -> Result<Vec<RedriveResult>, Error> {
        let grave = self.grave(group)?.settings.id;
        let refused =
            |error| RedriveResult { outcome: Outcome::Refused.into(), error: Some(error), ..RedriveResult::default() };
        let mut results = Vec::with_capacity(letters.len());
        for letter in letters {
            let result = self.redrive_one(grave, letter, dry_run).unwrap_or_else(refused);
            if !dry_run {
                metrics::redriven(outcome_name(result.outcome()));
            }
            results.push(result);
        }
        Ok(results)
    }

    fn redrive_one(&mut self, grave: u32, letter: Letter, dry_run: bool) -> Result<RedriveResult, Error> {
        let store::Place { queue, offset } = letter.place;
        let message = letter.message.filter(|message| message.topic == grave && self.is_kept(grave, letter.place));
        let message = message.ok_or_else(|| nothing_there(letter.place))?;
        let revived = Revived::read(&message).ok_or_else(|| not_dead(letter.place))?;
        let mut result = RedriveResult {
            outcome: Outcome::Already.into(),
            message_id: revived.message_id.clone(),
            topic: revived.topic.clone(),
            ..RedriveResult::default()
        };
        if self.state.redriven.contains(grave, queue, offset) {
            return Ok(result);
        }
        let topic = self.state.topics.named(&revived.topic).ok_or_else(|| topic_not_found(&revived.topic))?;
        if !topic.is_writable() {
            return Err(Error::new(Reason::Forbidden, format!("topic {:?} does not take messages", revived.topic)));
        }
        let (id, is_lite, queues) = (topic.settings.id, topic.is_lite(), topic.queues.len().max(1));
        result.queue = if is_lite {
            self.queue_for_letter(id, &revived.properties, dry_run)?
        } else {
            // A topic made again may have fewer queues than the one before.
            u32::try_from(revived.queue as usize % queues).unwrap_or_default()
        };
        let topic = self.state.topics.get(id);
        let next = topic.and_then(|topic| topic.queues.get(result.queue as usize)).map_or(0, |queue| queue.end);
        result.outcome = Outcome::Sent.into();
        result.offset = next;
        if dry_run {
            return Ok(result);
        }
        let Revived { ttl_ms, head, properties, .. } = revived;
        let place = Place::Queued(next);
        let again = Message::new(id, result.queue, place, self.now_ms, head, properties, message.body);
        let mut again = Message { ttl_ms, ..again };
        if is_lite {
            again.group_hash = 0; // all of a lite topic is in order
        }
        self.check_space()?;
        self.make_room(again.encoded_len() + 1024)?;
        // Room for both is there: one block has the message, and that it was sent.
        self.commit(Event::Redriven(Redriven { topic: grave, queue, offsets: offsets::pack([offset]) }));
        self.commit_message(&again);
        tracing::info!(topic = result.topic, queue = result.queue, offset = next, "dead letter sent again");
        Ok(result)
    }

    /// The dead-letter topic of a group; it may outlive the group.
    fn grave(&self, group: &str) -> Result<&Topic, Error> {
        let name = format!("{DEAD_LETTER_PREFIX}{group}");
        self.state.topics.named(&name).ok_or_else(|| topic_not_found(&name))
    }

    fn is_kept(&self, topic: u32, place: store::Place) -> bool {
        let queue = self.state.topics.get(topic).and_then(|topic| topic.queues.get(place.queue as usize));
        queue.is_some_and(|queue| (queue.start..queue.end).contains(&place.offset))
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Sent => "sent",
        Outcome::Already => "already",
        Outcome::Refused => "refused",
    }
}

fn nothing_there(place: store::Place) -> Error {
    let store::Place { queue, offset } = place;
    let sentence = format!("there is no message at offset {offset} of queue {queue}, or it cannot be read");
    Error::new(Reason::OffsetNotFound, sentence)
}

fn not_dead(place: store::Place) -> Error {
    let store::Place { queue, offset } = place;
    let sentence = format!("the message at offset {offset} of queue {queue} does not say which topic it came from");
    Error::new(Reason::Precondition, sentence)
}
