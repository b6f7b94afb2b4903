//! Questions that the image does not answer. A voter reads its own state, once a quorum has
//! confirmed the leader; without one here the leader reads its own.

use protocol::TopicPartition;
use tokio::time::Instant;
use wal::{Sequence, WalId};

use super::{Client, Way, encode, unavailable};
use crate::command::{Command, Proposal, decode_answer, put_id};
use crate::error::Error;
use crate::limits::{MAX_KEYS_PER_QUERY, QUERY_BYTES, SUBMIT_TIMEOUT};
use crate::rpc::{query, wire};
use crate::state::{Condemned, PartitionState, State};
use crate::types::CommandId;

impl Client {
    /// Waits until the image here holds all that was committed before the call.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let asked = self.ask(deadline, true, || Ok(wire::Ask::default()));
        asked.await.map(drop)
    }

    /// Everything about one partition, slices included; linearizable. `None` when it is not there.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn partition(&self, tp: TopicPartition) -> Result<Option<PartitionState>, Error> {
        if let Way::Local(_) = &self.inner.way {
            return self.read(|state| state.partition_state(tp)).await;
        }
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        'anew: loop {
            let mut pages = query::Pages::new(tp);
            loop {
                let page = self.query(deadline, pages.next()).await?;
                match pages.add(page).map_err(|e| Error::corrupt("answer", e.0))? {
                    query::Added::More => {}
                    query::Added::Done(found) => return Ok(found.map(|state| *state)),
                    // The partition changed between two pages.
                    query::Added::Changed if Instant::now() < deadline => continue 'anew,
                    query::Added::Changed => {
                        return Err(unavailable("the partition changes all the time"));
                    }
                }
            }
        }
    }

    /// Bytes of a partition's slices; linearizable. `None` when it is not there.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn partition_bytes(&self, tp: TopicPartition) -> Result<Option<u64>, Error> {
        if let Way::Local(_) = &self.inner.way {
            return self.read(|state| state.partition_bytes(tp)).await;
        }
        let query = wire::Query {
            bytes: Some(query::put_partition(tp)),
            ..Default::default()
        };
        Ok(self.query_once(query).await?.bytes)
    }

    /// The first group of a log that is not committed; linearizable. `None` when the log is closed.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn trim_point(&self, wal: WalId) -> Result<Option<Sequence>, Error> {
        if let Way::Local(_) = &self.inner.way {
            return self.read(|state| state.trim_point(wal)).await;
        }
        let query = wire::Query {
            trim: Some(put_id(wal.0)),
            ..Default::default()
        };
        Ok(self.query_once(query).await?.trim)
    }

    /// Objects condemned before `before_ms`, at most `limit`, oldest first and then by key, that come
    /// behind `after`; linearizable. It may be fewer than there are: ask again behind the last one.
    /// A leader of an older build answers from the first one on.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn condemned(
        &self,
        before_ms: i64,
        after: Option<Condemned>,
        limit: usize,
    ) -> Result<Vec<Condemned>, Error> {
        if let Way::Local(_) = &self.inner.way {
            let read = |state: &State| state.condemned_before(before_ms, after.as_ref(), limit);
            return self.read(read).await;
        }
        let ask = wire::AskCondemned {
            before_ms,
            limit: u64::try_from(limit).unwrap_or(u64::MAX),
            after: after.map(query::put_object),
        };
        let query = wire::Query {
            condemned: Some(ask),
            ..Default::default()
        };
        let condemned = self.query_once(query).await?.condemned;
        Ok(condemned.into_iter().map(query::get_condemned).collect())
    }

    /// Of `keys`, those that nothing names and nothing can ever name; linearizable. Many are
    /// asked for in several queries: what can never be named stays so between them.
    ///
    /// # Errors
    /// `Unavailable`, `Stopped`.
    pub async fn orphans(&self, mut keys: Vec<String>) -> Result<Vec<String>, Error> {
        let mut orphans = Vec::new();
        while !keys.is_empty() {
            let rest = keys.split_off(first_query(&keys));
            let asked = std::mem::replace(&mut keys, rest);
            match &self.inner.way {
                Way::Local(_) => orphans.extend(self.read(|state| state.orphans(asked)).await?),
                Way::Remote(_) => {
                    let query = wire::Query {
                        orphans: Some(wire::Keys { keys: asked }),
                        ..Default::default()
                    };
                    orphans.extend(self.query_once(query).await?.keys);
                }
            }
        }
        Ok(orphans)
    }

    /// Whether `command` would be done, without doing it (Kafka's `validate_only`). Looks at
    /// topics, partitions, configurations and levels; of other commands it knows nothing and says
    /// yes.
    ///
    /// # Errors
    /// The refusal.
    pub async fn check(&self, command: &Command) -> Result<(), Error> {
        if let Way::Local(_) = &self.inner.way {
            let newest = self.inner.way.newest_level();
            return Ok(self.read(|state| state.check(command, newest)).await??);
        }
        let proposal = Proposal {
            id: CommandId(uuid::Uuid::nil()),
            now_ms: 0,
            command: command.clone(),
        };
        let query = wire::Query {
            check: Some(encode(&proposal)?),
            ..Default::default()
        };
        let answer = decode_answer(&self.query_once(query).await?.answer);
        answer.map_err(|e| Error::corrupt("answer", e.0))??;
        Ok(())
    }

    async fn query_once(&self, query: wire::Query) -> Result<wire::Reply, Error> {
        self.query(Instant::now() + SUBMIT_TIMEOUT, query).await
    }

    /// The leader's answer, from a state that holds all that was committed before the call.
    async fn query(&self, deadline: Instant, query: wire::Query) -> Result<wire::Reply, Error> {
        let asked = self.ask(deadline, false, || {
            Ok(wire::Ask {
                query: Some(query.clone()),
                ..Default::default()
            })
        });
        let reply = asked.await?.reply;
        reply.ok_or_else(|| Error::corrupt("answer", "no reply to a query"))
    }

    /// Reads the state of the voter here, linearizably.
    pub(crate) async fn read<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, Error> {
        self.confirm_leader().await?;
        Ok(self.local().shared.read(read))
    }

    /// Returns once a quorum has confirmed the leader after the call, and the local state holds
    /// all that was committed before it.
    pub(crate) async fn confirm_leader(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SUBMIT_TIMEOUT;
        let asked = self.ask(deadline, true, || {
            Ok(wire::Ask {
                read_index: Some(wire::Nothing {}),
                ..Default::default()
            })
        });
        asked.await.map(drop)
    }
}

/// How many of `keys` go into one query: at least one.
fn first_query(keys: &[String]) -> usize {
    let mut bytes = 0;
    let fits = |key: &&String| {
        bytes += key.len() + 8;
        bytes <= QUERY_BYTES
    };
    let fitting = keys.iter().take(MAX_KEYS_PER_QUERY).take_while(fits);
    fitting.count().max(1)
}
