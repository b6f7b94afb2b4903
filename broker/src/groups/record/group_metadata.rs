//! Value of a group's metadata: one generation, with what every member was given.
//!
//! ```text
//! protocol type string, generation i32, protocol string?, leader string?,
//! v2+: time of the state i64,
//! members (i32 count): member id string, v3+: instance id string?, client id string,
//!   client host string, v1+: rebalance timeout i32, session timeout i32,
//!   subscription bytes, assignment bytes
//! ```
//! Version 3 is written; version 4 is the same with compact types and tagged fields.

use bytes::Bytes;

use super::RecordError;
use super::wire::{Reader, Writer};
use crate::groups::api::Name;

/// Value of a group's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// Protocol type, empty for none.
    pub protocol_type: Name,
    /// Generation.
    pub generation: i32,
    /// Chosen protocol; none when the group is empty.
    pub protocol: Option<Name>,
    /// Leader's member id.
    pub leader: Option<Name>,
    /// When the group came into its state, milliseconds since the Unix epoch; -1 if unknown.
    pub state_since_ms: i64,
    /// The members.
    pub members: Vec<MemberValue>,
}

/// One member in [`GroupMetadataValue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberValue {
    /// Its id.
    pub member_id: Name,
    /// Its instance id.
    pub instance_id: Option<Name>,
    /// Its client id.
    pub client_id: Name,
    /// Its address.
    pub client_host: Name,
    /// Its rebalance timeout, milliseconds.
    pub rebalance_timeout_ms: i32,
    /// Its session timeout, milliseconds.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

const WRITTEN_VERSION: i16 = 3;
const HIGHEST_VERSION: i16 = 4;

impl GroupMetadataValue {
    /// Version 3: what Kafka writes.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new(WRITTEN_VERSION);
        writer.string(&self.protocol_type);
        writer.i32(self.generation);
        writer.nullable_string(self.protocol.as_deref());
        writer.nullable_string(self.leader.as_deref());
        writer.i64(self.state_since_ms);
        writer.length(self.members.len());
        for member in &self.members {
            writer.string(&member.member_id);
            writer.nullable_string(member.instance_id.as_deref());
            writer.string(&member.client_id);
            writer.string(&member.client_host);
            writer.i32(member.rebalance_timeout_ms);
            writer.i32(member.session_timeout_ms);
            writer.bytes(&member.subscription);
            writer.bytes(&member.assignment);
        }
        writer.finish()
    }

    /// Reads versions 0 to 4.
    ///
    /// # Errors
    /// [`RecordError`] when the bytes are damaged or of a later version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16("version")?;
        if !(0..=HIGHEST_VERSION).contains(&version) {
            return Err(RecordError::Version {
                record: "GroupMetadataValue",
                version,
            });
        }
        let flexible = version >= 4;
        let protocol_type = string(&mut reader, flexible, "protocolType")?;
        let generation = reader.i32("generation")?;
        let protocol = nullable(&mut reader, flexible, "protocol")?;
        let leader = nullable(&mut reader, flexible, "leader")?;
        let state_since_ms = if version >= 2 {
            reader.i64("currentStateTimestamp")?
        } else {
            -1
        };
        let count = if flexible {
            i64::from(reader.unsigned_varint("members")?) - 1
        } else {
            reader.i32("members")?.into()
        };
        // A member takes at least a byte per field: a count beyond that is damage, and nothing is
        // reserved for it.
        let count = usize::try_from(count)
            .ok()
            .filter(|&count| count <= reader.remaining())
            .ok_or(RecordError::Length {
                field: "members",
                length: count,
            })?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(MemberValue::decode(&mut reader, version)?);
        }
        if flexible {
            reader.skip_tags()?;
        }
        Ok(Self {
            protocol_type,
            generation,
            protocol,
            leader,
            state_since_ms,
            members,
        })
    }
}

impl MemberValue {
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, RecordError> {
        let flexible = version >= 4;
        let member_id = string(reader, flexible, "memberId")?;
        let instance_id = if version >= 3 {
            nullable(reader, flexible, "groupInstanceId")?
        } else {
            None
        };
        let client_id = string(reader, flexible, "clientId")?;
        let client_host = string(reader, flexible, "clientHost")?;
        let rebalance = if version >= 1 {
            Some(reader.i32("rebalanceTimeout")?)
        } else {
            None
        };
        let session_timeout_ms = reader.i32("sessionTimeout")?;
        let (subscription, assignment) = if flexible {
            (
                reader.compact_bytes("subscription")?,
                reader.compact_bytes("assignment")?,
            )
        } else {
            (reader.bytes("subscription")?, reader.bytes("assignment")?)
        };
        if flexible {
            reader.skip_tags()?;
        }
        Ok(Self {
            member_id,
            instance_id,
            client_id,
            client_host,
            // Version 0 knew one timeout for both.
            rebalance_timeout_ms: rebalance.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription,
            assignment,
        })
    }
}

fn string(
    reader: &mut Reader<'_>,
    flexible: bool,
    field: &'static str,
) -> Result<Name, RecordError> {
    let value = if flexible {
        reader.compact_string(field)?
    } else {
        reader.string(field)?
    };
    Ok(value.into())
}

fn nullable(
    reader: &mut Reader<'_>,
    flexible: bool,
    field: &'static str,
) -> Result<Option<Name>, RecordError> {
    let value = if flexible {
        reader.compact_nullable_string(field)?
    } else {
        reader.nullable_string(field)?
    };
    Ok(value.map(Name::from))
}
