//! Answers remembered by idempotence key, bounded by count, bytes and age in log entries.

use std::collections::BTreeMap;

use crate::command::{Response, decode_answer, encode_answer};
use crate::limits::{MAX_RECENT_AGE, MAX_RECENT_BYTES, MAX_RECENT_COMMANDS};
use crate::types::CommandId;

/// What was answered lately. Only commands that were done are remembered: a refused one changed
/// nothing, and its repetition is judged anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recent {
    by_id: BTreeMap<CommandId, u64>,
    /// By log index, oldest first.
    answers: BTreeMap<u64, (CommandId, Box<[u8]>)>,
    bytes: usize,
}

// === impl Recent ===

impl Recent {
    /// What was answered to `id`.
    pub(crate) fn answer(&self, id: CommandId) -> Option<Response> {
        let (_, bytes) = self.answers.get(self.by_id.get(&id)?)?;
        let answer = decode_answer(bytes).expect("we encoded it, or checked it when loading");
        Some(answer.expect("only what was done is remembered"))
    }

    /// Remembers an answer, and forgets what is over the bounds.
    pub(crate) fn remember(&mut self, index: u64, id: CommandId, response: &Response) {
        self.restore(index, id, encode_answer(&Ok(response.clone())).into());
        while self.answers.len() > MAX_RECENT_COMMANDS || self.bytes > MAX_RECENT_BYTES {
            self.forget_oldest();
        }
        while self
            .answers
            .keys()
            .next()
            .is_some_and(|at| index - at > MAX_RECENT_AGE)
        {
            self.forget_oldest();
        }
    }

    /// Puts back an answer from a snapshot.
    pub(crate) fn restore(&mut self, index: u64, id: CommandId, answer: Box<[u8]>) {
        self.bytes += answer.len();
        self.by_id.insert(id, index);
        self.answers.insert(index, (id, answer));
    }

    /// Index, id and bytes of each answer, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, CommandId, &[u8])> {
        self.answers
            .iter()
            .map(|(index, (id, bytes))| (*index, *id, &**bytes))
    }

    fn forget_oldest(&mut self) {
        if let Some((_, (id, bytes))) = self.answers.pop_first() {
            self.bytes -= bytes.len();
            self.by_id.remove(&id);
        }
    }
}
