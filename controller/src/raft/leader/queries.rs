//! Questions from where there is no state.

use wal::WalId;

use super::{Local, NotDone};
use crate::command::{Malformed, Proposal, Response, encode_answer, get_id};
use crate::error::Error;
use crate::limits::MAX_KEYS_PER_QUERY;
use crate::rpc::{query, wire};

// === impl Local ===

impl Local {
    /// Answers from the state here, which the caller knows to be current.
    pub(super) fn query(
        &self,
        asked: &wire::Query,
        outcome: &mut wire::Outcome,
    ) -> Result<(), NotDone> {
        let malformed = |e: Malformed| Error::Settings {
            reason: e.to_string(),
        };
        let mut reply = wire::Reply::default();
        if let Some(page) = &asked.partition {
            let tp = query::get_asked(page.partition.clone()).map_err(malformed)?;
            let state = self.shared.read(|state| state.partition_state(tp));
            reply.partition = state.map(|state| query::put_page(&state, page.from));
        }
        if let Some(tp) = &asked.bytes {
            let tp = query::get_asked(Some(tp.clone())).map_err(malformed)?;
            reply.bytes = self.shared.read(|state| state.partition_bytes(tp));
        }
        if let Some(ask) = &asked.condemned {
            let limit = usize::try_from(ask.limit).unwrap_or(usize::MAX);
            let after = ask.after.clone().map(query::get_condemned);
            let found = |state: &crate::state::State| {
                state.condemned_before(ask.before_ms, after.as_ref(), limit)
            };
            reply.condemned = query::put_condemned(self.shared.read(found));
        }
        if let Some(wire::Keys { keys }) = &asked.orphans {
            if keys.len() > MAX_KEYS_PER_QUERY {
                let reason = format!("{} keys in one query", keys.len());
                return Err(Error::Settings { reason }.into());
            }
            reply.keys = self.shared.read(|state| state.orphans(keys.clone()));
        }
        if let Some(proposal) = &asked.check {
            let command = Proposal::decode(proposal).map_err(malformed)?.command;
            let newest = self.shared.newest_level();
            let checked = self.shared.read(|state| state.check(&command, newest));
            reply.answer = encode_answer(&checked.map(|()| Response::Done));
        }
        if let Some(id) = &asked.trim {
            let wal = WalId(get_id(id).map_err(malformed)?);
            reply.trim = self.shared.read(|state| state.trim_point(wal));
        }
        outcome.reply = Some(reply);
        Ok(())
    }
}
