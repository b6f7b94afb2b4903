//! Members of a consumer group of the classic protocol: they join, commit, leave and crash.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;

use broker::client::{Cluster, Error, FetchLimits};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use env::sim::SimEntropy;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::leave_group_request::MemberIdentity;
use protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, StrBytes, SyncGroupRequest,
};
use protocol::{ErrorCode, Response};
use tests::history::groups::GroupHistory;
use tokio::time::sleep;

use crate::clients::{PAUSE, Picture, Shared, TOPIC};

const GROUP: &str = "readers";
const SESSION_MS: i32 = 6_000;
/// Below the client's time-out: a join waits as long.
const REBALANCE_MS: i32 = 5_000;
/// Highest versions that name topics rather than their ids, and one group.
const COMMIT_BY_NAME: i16 = 9;
const FETCH_BY_NAME: i16 = 7;

/// How a turn as a member ended.
enum End {
    /// It left, or went without a word: it comes back as another member.
    Gone,
    /// It has to join again.
    Rebalance,
}

/// A member of the group.
struct Member {
    shared: Shared,
    cluster: Cluster,
    random: SimEntropy,
    id: StrBytes,
    generation: i32,
    coordinator: i32,
    picture: Picture,
    /// What it owns, and where it reads next.
    next: BTreeMap<i32, i64>,
}

/// Takes part in the group until told to stop.
pub(crate) async fn member(shared: Shared, seed: u64, number: u32) {
    let random = SimEntropy::new(seed);
    let cluster = shared.cluster(random.below(u64::MAX), number);
    let mut member = Member {
        shared,
        cluster,
        random,
        id: StrBytes::default(),
        generation: -1,
        coordinator: -1,
        picture: Picture::default(),
        next: BTreeMap::new(),
    };
    while !member.stopped() {
        match member.turn().await {
            Ok(End::Gone) => {
                member.id = StrBytes::default();
                let away = 200 + member.random.below(3000);
                sleep(Duration::from_millis(away)).await;
            }
            Ok(End::Rebalance) => {}
            Err(error) => {
                member.say(&error.to_string());
                if error.code() == Some(ErrorCode::UnknownMemberId) {
                    member.id = StrBytes::default();
                }
                sleep(PAUSE).await;
            }
        }
    }
}

// === impl Member ===

impl Member {
    fn history(&self) -> MutexGuard<'_, GroupHistory> {
        self.shared.group.lock().expect("no panic under this lock")
    }

    fn stopped(&self) -> bool {
        *self.shared.stop_group.borrow()
    }

    fn say(&self, what: &str) {
        self.shared.trace.line(&format!("{GROUP}: {what}"));
    }

    async fn turn(&mut self) -> Result<End, Error> {
        self.coordinator = self.cluster.coordinator(GROUP).await?;
        let members = self.join().await?;
        let owned = self.sync(members).await?;
        self.history().assigned(&self.id, self.generation, &owned);
        self.say(&format!(
            "{} owns {owned:?} in generation {}",
            self.id.as_str(),
            self.generation
        ));
        self.positions(&owned).await?;
        self.consume().await
    }

    /// Joins; gives the members when this one is to divide the work.
    async fn join(&mut self) -> Result<Vec<StrBytes>, Error> {
        let mut metadata = BytesMut::new();
        metadata.put_i16(0);
        metadata.put_i32(1);
        metadata.put_i16(TOPIC.len() as i16);
        metadata.put_slice(TOPIC.as_bytes());
        metadata.put_i32(-1);
        let metadata = metadata.freeze();
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str("rotating"))
                .with_metadata(metadata.clone());
            let request = JoinGroupRequest::default()
                .with_group_id(group())
                .with_session_timeout_ms(SESSION_MS)
                .with_rebalance_timeout_ms(REBALANCE_MS)
                .with_member_id(self.id.clone())
                .with_protocol_type(StrBytes::from_static_str("consumer"))
                .with_protocols(vec![protocol]);
            let answer = self.cluster.call_node(self.coordinator, request, 9).await?;
            let Response::JoinGroup(answer) = answer else {
                panic!("a join is answered with a join");
            };
            if answer.error_code == ErrorCode::MemberIdRequired.code() {
                self.id = answer.member_id;
                continue;
            }
            Error::check("join", answer.error_code, None)?;
            self.id = answer.member_id.clone();
            self.generation = answer.generation_id;
            let members = answer.members.into_iter().map(|member| member.member_id);
            return Ok(members.collect());
        }
    }

    /// Hands the work out, when there are `members` to hand it to; gives what this one owns.
    async fn sync(&mut self, mut members: Vec<StrBytes>) -> Result<Vec<i32>, Error> {
        members.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        let count = members.len() as i32;
        let mut assignments = Vec::new();
        for (member, place) in members.into_iter().zip(0..) {
            let mut owned = BytesMut::new();
            // Another owner in each generation.
            let mine = |p: &i32| (p + self.generation) % count == place;
            for partition in (0..self.shared.partitions).filter(mine) {
                owned.put_i32(partition);
            }
            let given = SyncGroupRequestAssignment::default()
                .with_member_id(member)
                .with_assignment(owned.freeze());
            assignments.push(given);
        }
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
            .with_protocol_name(Some(StrBytes::from_static_str("rotating")))
            .with_assignments(assignments);
        let answer = self.cluster.call_node(self.coordinator, request, 5).await?;
        let Response::SyncGroup(answer) = answer else {
            panic!("a sync is answered with a sync");
        };
        Error::check("sync", answer.error_code, None)?;
        let mut assigned: Bytes = answer.assignment;
        let mut owned = Vec::new();
        while assigned.remaining() >= 4 {
            owned.push(assigned.get_i32());
        }
        Ok(owned)
    }

    /// Begins where the group has committed.
    async fn positions(&mut self, owned: &[i32]) -> Result<(), Error> {
        self.next.clear();
        if owned.is_empty() {
            return Ok(());
        }
        let topic = OffsetFetchRequestTopic::default()
            .with_name(topic_name())
            .with_partition_indexes(owned.to_vec());
        let request = OffsetFetchRequest::default()
            .with_group_id(group())
            .with_topics(Some(vec![topic]));
        let began = self.history().tick();
        let answer = self
            .cluster
            .call_node(self.coordinator, request, FETCH_BY_NAME)
            .await?;
        let Response::OffsetFetch(answer) = answer else {
            panic!("a fetch of offsets is answered with one");
        };
        Error::check("fetch of offsets", answer.error_code, None)?;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            Error::check("fetch of an offset", partition.error_code, None)?;
            let (index, offset) = (partition.partition_index, partition.committed_offset);
            self.history().fetched(index, offset, began);
            self.next.insert(index, offset.max(0));
        }
        Ok(())
    }

    /// Reads, commits and beats until something ends it.
    async fn consume(&mut self) -> Result<End, Error> {
        while !self.stopped() {
            for index in self.next.keys().copied().collect::<Vec<_>>() {
                if let Err(error) = self.read(index).await {
                    self.picture.forget();
                    self.say(&format!("partition {index}: {error}"));
                    sleep(PAUSE).await;
                }
            }
            sleep(Duration::from_millis(20 + self.random.below(150))).await;
            let crashed = self.random.chance(1);
            if !crashed && self.random.chance(30) {
                match self.commit().await {
                    Ok(()) => {}
                    Err(error) if keeps_place(&error) => self.find_again(&error).await,
                    Err(error) => return ended(error),
                }
            }
            if crashed {
                self.say(&format!("{} goes without a word", self.id.as_str()));
                return Ok(End::Gone);
            }
            if self.random.chance(1) {
                return self.leave().await;
            }
            match self.beat().await {
                Ok(()) => {}
                Err(error) if keeps_place(&error) => self.find_again(&error).await,
                Err(error) => return ended(error),
            }
        }
        Ok(End::Gone)
    }

    async fn read(&mut self, index: i32) -> Result<(), Error> {
        let Some(from) = self.next.get(&index).copied() else {
            return Ok(());
        };
        let partition = self.picture.partition(&mut self.cluster, index).await?;
        let limits = FetchLimits {
            max_wait_ms: 50,
            max_bytes: 1 + self.random.below(60_000) as i32,
        };
        let fetched = self.cluster.fetch(TOPIC, partition, from, limits).await?;
        let mut offsets = Vec::new();
        let after = fetched.for_each(from, |record| offsets.push(record.offset));
        let after = after.expect("what is served keeps its promises");
        for offset in offsets {
            self.history().delivered(index, offset);
        }
        self.next.insert(index, after);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), Error> {
        if self.next.is_empty() {
            return Ok(());
        }
        let next = self.next.clone();
        let told = |(index, offset): (&i32, &i64)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(-1)
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name())
            .with_partitions(next.iter().map(told).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        let mut commits = BTreeMap::new();
        for (index, offset) in &next {
            let commit = self.history().committing(*index, *offset);
            commits.insert(*index, commit);
        }
        let answer = self
            .cluster
            .call_node(self.coordinator, request, COMMIT_BY_NAME)
            .await?;
        let Response::OffsetCommit(answer) = answer else {
            panic!("a commit is answered with a commit");
        };
        let mut result = Ok(());
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            let commit = commits[&partition.partition_index];
            match Error::check("commit", partition.error_code, None) {
                Ok(()) => self.history().committed(commit),
                Err(error) => {
                    // These are said before anything is written; what else goes wrong may stand.
                    if error.code().is_some_and(is_final) {
                        self.history().refused(commit);
                    }
                    result = Err(error);
                }
            }
        }
        result
    }

    async fn beat(&mut self) -> Result<(), Error> {
        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let answer = self.cluster.call_node(self.coordinator, request, 4).await?;
        let Response::Heartbeat(answer) = answer else {
            panic!("a heartbeat is answered with one");
        };
        Error::check("heartbeat", answer.error_code, None)
    }

    async fn leave(&mut self) -> Result<End, Error> {
        self.say(&format!("{} leaves", self.id.as_str()));
        let member = MemberIdentity::default().with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default()
            .with_group_id(group())
            .with_members(vec![member]);
        // Whether it heard or not: the session runs out otherwise.
        let left = self.cluster.call_node(self.coordinator, request, 5).await;
        if let Err(error) = left {
            self.say(&error.to_string());
        }
        Ok(End::Gone)
    }

    /// The coordinator is away or another: the membership goes on.
    async fn find_again(&mut self, error: &Error) {
        self.say(&format!("{error}, and goes on as {}", self.id.as_str()));
        sleep(PAUSE).await;
        if let Ok(node) = self.cluster.coordinator(GROUP).await {
            self.coordinator = node;
        }
    }
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str(GROUP))
}

fn topic_name() -> protocol::messages::TopicName {
    StrBytes::from_static_str(TOPIC).into()
}

/// Refusals that say that the member's place is gone.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::IllegalGeneration
            | ErrorCode::UnknownMemberId
            | ErrorCode::RebalanceInProgress
            | ErrorCode::FencedInstanceId
    )
}

fn keeps_place(error: &Error) -> bool {
    !error.code().is_some_and(is_final)
}

fn ended(error: Error) -> Result<End, Error> {
    match error.code() {
        Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => Ok(End::Rebalance),
        _ => Err(error),
    }
}
