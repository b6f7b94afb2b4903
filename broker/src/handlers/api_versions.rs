//! ApiVersions, key 18, versions 0 to 5.
//!
//! Answers with the table of what is served. From version 3 the client's software name and version
//! are checked (KIP-511) and features are told (KIP-584): Kafka's `metadata.version`, which stands for
//! the messages, and `headwater.version`, the level of the cluster's own log. From version 5 a client may say which
//! cluster and node it means to reach, and is told when this is another (KIP-1242): its bootstrap
//! addresses are then the way back. A version above ours never gets here: it is answered in
//! version 0 by the connection.

use controller::{NEWEST_LEVEL, OLDEST_LEVEL, VERSION_FEATURE};
use protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::{ErrorCode, advertised_api_keys};

use super::text;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::limits::MAX_SOFTWARE_NAME;

/// Kafka's `metadata.version` from 3.3-IV3 (level 7, the lowest that 4.x knows) to 4.4-IV2 (level
/// 33, the last of release 4.4), whose messages we serve.
pub(super) const METADATA_VERSION: (&str, i16, i16) = ("metadata.version", 7, 33);
/// A client that names no node.
const NO_NODE: i32 = -1;

pub(crate) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: &ApiVersionsRequest,
) -> ApiVersionsResponse {
    let response = ApiVersionsResponse::default();
    if context.version >= 3
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        return response.with_error_code(ErrorCode::InvalidRequest.code());
    }
    let image = broker.image();
    if context.version >= 5 {
        let here = image.cluster.map(|id| id.to_string());
        let node = broker.config.node_id.0;
        if let Err(code) = check_destination(request, here.as_deref(), node) {
            return response.with_error_code(code.code());
        }
    }
    let response = response.with_api_keys(advertised_api_keys());
    if context.version < 3 {
        return response;
    }
    let level = image.level().cast_signed();
    let (oldest, newest) = (OLDEST_LEVEL.cast_signed(), NEWEST_LEVEL.cast_signed());
    let (name, lowest, highest) = METADATA_VERSION;
    let features = [
        ((name, lowest, highest), highest),
        ((VERSION_FEATURE, oldest, newest), level),
    ];
    let supported = features.map(|((name, lowest, highest), _)| {
        SupportedFeatureKey::default()
            .with_name(text(name))
            .with_min_version(lowest)
            .with_max_version(highest)
    });
    let finalized = features.map(|((name, ..), level)| {
        FinalizedFeatureKey::default()
            .with_name(text(name))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    let applied = image.applied;
    response
        .with_supported_features(supported.into())
        .with_finalized_features(finalized.into())
        .with_finalized_features_epoch(i64::try_from(applied).unwrap_or(i64::MAX))
}

/// Whether the client is where it means to be: cluster and node come together or not at all, and
/// are this one's. A broker that is of no cluster yet has nothing to say against it.
fn check_destination(
    request: &ApiVersionsRequest,
    cluster: Option<&str>,
    node: i32,
) -> Result<(), ErrorCode> {
    let meant = (request.cluster_id.as_deref(), request.node_id);
    match (meant, cluster) {
        ((None, NO_NODE), _) => Ok(()),
        ((None, _) | (_, NO_NODE), _) => Err(ErrorCode::InvalidRequest),
        ((Some(_), _), None) => Ok(()),
        ((Some(theirs), to), Some(ours)) if theirs == ours && to == node => Ok(()),
        ((Some(_), _), Some(_)) => Err(ErrorCode::RebootstrapRequired),
    }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`, and short: the connection keeps it.
fn is_software_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let bytes = name.as_bytes();
    bytes.len() <= MAX_SOFTWARE_NAME
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(inner)
}

#[cfg(test)]
mod tests {
    use protocol::messages::StrBytes;

    use super::*;

    #[test]
    fn a_client_that_means_another_cluster_or_node_is_sent_back() {
        let check = |cluster: Option<&str>, node| {
            let id = cluster.map(|id| StrBytes::from_string(id.to_owned()));
            let request = ApiVersionsRequest::default().with_cluster_id(id);
            check_destination(&request.with_node_id(node), Some("ours"), 3)
        };
        assert_eq!(check(None, -1), Ok(()));
        assert_eq!(check(Some("ours"), 3), Ok(()));
        for (cluster, node) in [("ours", 4), ("theirs", 3), ("", 3)] {
            let answer = check(Some(cluster), node);
            assert_eq!(
                answer,
                Err(ErrorCode::RebootstrapRequired),
                "{cluster} {node}"
            );
        }
        for (cluster, node) in [(None, 3), (Some("ours"), -1), (Some("theirs"), -1)] {
            assert_eq!(check(cluster, node), Err(ErrorCode::InvalidRequest));
        }
        let request = ApiVersionsRequest::default().with_cluster_id(Some(text("any")));
        assert_eq!(check_destination(&request.with_node_id(9), None, 3), Ok(()));
    }

    #[test]
    fn software_names_are_checked() {
        for good in [
            "librdkafka",
            "a",
            "apache-kafka-java",
            "4.1.0",
            "a..b",
            "v1.2.3-rc1",
        ] {
            assert!(is_software_name(good), "{good}");
        }
        let long = "a".repeat(257);
        for bad in ["", "-a", "a-", ".a", "a b", "a_b", "ä", "a\n", &long] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
