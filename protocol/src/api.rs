//! The one table of API keys: which are served, in which versions, by whose codec.
//!
//! ApiVersions, the router, the codec, the frame guard's coverage test and the cross-check are all
//! fed from it. An API that does not work yet is not in it.

use std::fmt;
use std::ops::RangeInclusive;

/// Calls `$callback!` with one row per API: the name, its messages, its key, the versions that are
/// decoded, the first flexible version, the lowest version advertised, and the two codecs.
macro_rules! with_api_table {
    ($callback:ident) => {
        $callback! {
            // The columns are: key, versions decoded, first flexible version, lowest version
            // advertised, codec of the request and of the response.
            Produce(ProduceRequest, ProduceResponse)
                = 0, 3..=13, from 9, advertised 0, codecs Ours Library;
            Fetch(FetchRequest, FetchResponse)
                = 1, 4..=18, from 12, advertised 4, codecs Library Ours;
            ListOffsets(ListOffsetsRequest, ListOffsetsResponse)
                = 2, 1..=11, from 6, advertised 1, codecs LibraryUpTo(10) LibraryUpTo(10);
            Metadata(MetadataRequest, MetadataResponse)
                = 3, 0..=13, from 9, advertised 0, codecs Library Library;
            OffsetCommit(OffsetCommitRequest, OffsetCommitResponse)
                = 8, 2..=10, from 8, advertised 2, codecs Ours Library;
            OffsetFetch(OffsetFetchRequest, OffsetFetchResponse)
                = 9, 1..=10, from 6, advertised 1, codecs Ours Library;
            FindCoordinator(FindCoordinatorRequest, FindCoordinatorResponse)
                = 10, 0..=6, from 3, advertised 0, codecs Library Library;
            JoinGroup(JoinGroupRequest, JoinGroupResponse)
                = 11, 0..=9, from 6, advertised 0, codecs Library Library;
            Heartbeat(HeartbeatRequest, HeartbeatResponse)
                = 12, 0..=4, from 4, advertised 0, codecs Library Library;
            LeaveGroup(LeaveGroupRequest, LeaveGroupResponse)
                = 13, 0..=5, from 4, advertised 0, codecs Library Library;
            SyncGroup(SyncGroupRequest, SyncGroupResponse)
                = 14, 0..=5, from 4, advertised 0, codecs Library Library;
            DescribeGroups(DescribeGroupsRequest, DescribeGroupsResponse)
                = 15, 0..=6, from 5, advertised 0, codecs Library Library;
            ListGroups(ListGroupsRequest, ListGroupsResponse)
                = 16, 0..=5, from 3, advertised 0, codecs Library Library;
            ApiVersions(ApiVersionsRequest, ApiVersionsResponse)
                = 18, 0..=5, from 3, advertised 0, codecs Ours LibraryUpTo(4);
            CreateTopics(CreateTopicsRequest, CreateTopicsResponse)
                = 19, 2..=7, from 5, advertised 2, codecs Library Library;
            DeleteTopics(DeleteTopicsRequest, DeleteTopicsResponse)
                = 20, 1..=6, from 4, advertised 1, codecs Library Library;
            DeleteRecords(DeleteRecordsRequest, DeleteRecordsResponse)
                = 21, 0..=2, from 2, advertised 0, codecs Library Library;
            InitProducerId(InitProducerIdRequest, InitProducerIdResponse)
                = 22, 0..=5, from 2, advertised 0, codecs Library Library;
            OffsetForLeaderEpoch(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse)
                = 23, 2..=4, from 4, advertised 2, codecs Library Library;
            DescribeConfigs(DescribeConfigsRequest, DescribeConfigsResponse)
                = 32, 1..=4, from 4, advertised 1, codecs Library Library;
            AlterConfigs(AlterConfigsRequest, AlterConfigsResponse)
                = 33, 0..=2, from 2, advertised 0, codecs Library Library;
            DescribeLogDirs(DescribeLogDirsRequest, DescribeLogDirsResponse)
                = 35, 1..=5, from 2, advertised 1, codecs LibraryUpTo(4) Ours;
            CreatePartitions(CreatePartitionsRequest, CreatePartitionsResponse)
                = 37, 0..=3, from 2, advertised 0, codecs Library Library;
            DeleteGroups(DeleteGroupsRequest, DeleteGroupsResponse)
                = 42, 0..=3, from 2, advertised 0, codecs LibraryUpTo(2) Ours;
            ElectLeaders(ElectLeadersRequest, ElectLeadersResponse)
                = 43, 0..=2, from 2, advertised 0, codecs Library Library;
            IncrementalAlterConfigs(IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse)
                = 44, 0..=1, from 1, advertised 0, codecs Library Library;
            AlterPartitionReassignments(
                AlterPartitionReassignmentsRequest,
                AlterPartitionReassignmentsResponse
            )
                = 45, 0..=1, from 0, advertised 0, codecs Library Library;
            ListPartitionReassignments(
                ListPartitionReassignmentsRequest,
                ListPartitionReassignmentsResponse
            )
                = 46, 0..=0, from 0, advertised 0, codecs Library Library;
            OffsetDelete(OffsetDeleteRequest, OffsetDeleteResponse)
                = 47, 0..=0, from 32767, advertised 0, codecs Library Library;
            DescribeQuorum(DescribeQuorumRequest, DescribeQuorumResponse)
                = 55, 0..=2, from 0, advertised 0, codecs Library Library;
            UpdateFeatures(UpdateFeaturesRequest, UpdateFeaturesResponse)
                = 57, 0..=2, from 0, advertised 0, codecs Library Library;
            DescribeCluster(DescribeClusterRequest, DescribeClusterResponse)
                = 60, 0..=2, from 0, advertised 0, codecs Library Library;
            UnregisterBroker(UnregisterBrokerRequest, UnregisterBrokerResponse)
                = 64, 0..=0, from 0, advertised 0, codecs Library Library;
            DescribeTopicPartitions(DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse)
                = 75, 0..=0, from 0, advertised 0, codecs Library Library;
            AddRaftVoter(AddRaftVoterRequest, AddRaftVoterResponse)
                = 80, 0..=0, from 0, advertised 0, codecs Library Library;
            RemoveRaftVoter(RemoveRaftVoterRequest, RemoveRaftVoterResponse)
                = 81, 0..=0, from 0, advertised 0, codecs Library Library;
        }
    };
}
pub(crate) use with_api_table;

/// Whose code reads and writes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// kafka-protocol's.
    Library,
    /// kafka-protocol's, which knows versions up to this one; higher ones have the same format.
    LibraryUpTo(i16),
    /// Ours: the library lacks the newest version, or would copy records.
    Ours,
}

impl Codec {
    /// The version to ask of the codec for a message of `version`.
    pub const fn wire_version(self, version: i16) -> i16 {
        match self {
            Self::LibraryUpTo(last) if version > last => last,
            _ => version,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct ApiEntry {
    /// The API.
    pub key: ApiKey,
    /// Kafka's name, as in `FetchRequest` without `Request`.
    pub name: &'static str,
    /// Lowest version that is decoded; anything lower closes the connection.
    pub min_version: i16,
    /// Highest version that is decoded.
    pub max_version: i16,
    /// Lowest version told to clients. Produce says 0 though 0 to 2 are refused: librdkafka
    /// infers its features from the range (KAFKA-18659).
    pub advertised_min: i16,
    /// First version with compact lengths and tagged fields (KIP-482); `i16::MAX` if none has.
    pub flexible_from: i16,
    /// Whose codec serves the request.
    pub request_codec: Codec,
    /// Whose codec serves the response.
    pub response_codec: Codec,
}

impl ApiEntry {
    /// The versions that are decoded.
    pub const fn versions(&self) -> RangeInclusive<i16> {
        self.min_version..=self.max_version
    }

    /// Whether a request of this version is decoded.
    pub const fn serves(&self, version: i16) -> bool {
        self.min_version <= version && version <= self.max_version
    }

    /// Whether this version uses compact lengths and tagged fields.
    pub const fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// Version of the request header: 2 for flexible versions, else 1.
    pub const fn request_header_version(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Version of the response header: 1 for flexible versions, else 0. ApiVersions always
    /// answers with header 0, so that a client that asked too high can read the answer (KIP-511).
    pub const fn response_header_version(&self, version: i16) -> i16 {
        match self.key {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

macro_rules! define_table {
    ($($name:ident($request:ident, $response:ident) = $key:literal,
       $min:literal ..= $max:literal, from $flexible:literal,
       advertised $advertised:literal,
       codecs $request_codec:ident $(($request_last:literal))?
       $response_codec:ident $(($response_last:literal))?;)*) => {
        /// Key of an API that is served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("API key ", stringify!($key), ".")] $name = $key,)*
        }

        static TABLE: &[ApiEntry] = &[$(ApiEntry {
            key: ApiKey::$name,
            name: stringify!($name),
            min_version: $min,
            max_version: $max,
            advertised_min: $advertised,
            flexible_from: $flexible,
            request_codec: Codec::$request_codec $(($request_last))?,
            response_codec: Codec::$response_codec $(($response_last))?,
        },)*];

        impl ApiKey {
            /// The API with this number, if it is served.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code { $($key => Some(Self::$name),)* _ => None }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}
with_api_table!(define_table);

impl ApiKey {
    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// This API's row of the table.
    pub fn entry(self) -> &'static ApiEntry {
        let at = TABLE
            .binary_search_by_key(&self.code(), |entry| entry.key.code())
            .expect("every key has a row, and rows are in order of keys");
        &TABLE[at]
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Every API served, in order of keys: what ApiVersions answers with.
pub fn all() -> &'static [ApiEntry] {
    TABLE
}

/// The row of the API with this number, if it is served.
pub fn find(code: i16) -> Option<&'static ApiEntry> {
    ApiKey::from_code(code).map(ApiKey::entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_order_and_sane() {
        assert!(TABLE.windows(2).all(|pair| pair[0].key < pair[1].key));
        for entry in TABLE {
            assert!(entry.min_version <= entry.max_version, "{}", entry.name);
            assert!(entry.advertised_min <= entry.min_version, "{}", entry.name);
            assert_eq!(entry.key.entry().name, entry.name);
            assert_eq!(ApiKey::from_code(entry.key.code()), Some(entry.key));
        }
    }

    #[test]
    fn produce_is_advertised_from_zero_and_served_from_three() {
        let produce = ApiKey::Produce.entry();
        assert_eq!(produce.advertised_min, 0);
        assert!(!produce.serves(2) && produce.serves(3) && !produce.serves(14));
    }

    #[test]
    fn headers_follow_flexibility_but_for_api_versions() {
        assert_eq!(ApiKey::Fetch.entry().request_header_version(12), 2);
        assert_eq!(ApiKey::Fetch.entry().response_header_version(11), 0);
        assert_eq!(ApiKey::Fetch.entry().response_header_version(12), 1);
        assert_eq!(ApiKey::ApiVersions.entry().request_header_version(3), 2);
        assert_eq!(ApiKey::ApiVersions.entry().response_header_version(4), 0);
        assert_eq!(ApiKey::OffsetDelete.entry().request_header_version(0), 1);
    }
}
