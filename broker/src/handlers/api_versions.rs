//! ApiVersions, key 18, versions 0 to 4.
//!
//! Answers with the table of what is served. From version 3 the client's software name and version
//! are checked (KIP-511) and features are told (KIP-584); a version above ours never gets here: it
//! is answered in version 0 by the connection.

use protocol::messages::api_versions_response::{FinalizedFeatureKey, SupportedFeatureKey};
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use protocol::{ErrorCode, advertised_api_keys};

use super::text;
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::limits::MAX_SOFTWARE_NAME;

/// Kafka's `metadata.version` from 3.3 (the lowest that 4.x knows) to 4.1, whose messages we serve.
const METADATA_VERSION: (&str, i16, i16) = ("metadata.version", 7, 27);

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
    let response = response.with_api_keys(advertised_api_keys());
    if context.version < 3 {
        return response;
    }
    let (name, lowest, highest) = METADATA_VERSION;
    let supported = SupportedFeatureKey::default()
        .with_name(text(name))
        .with_min_version(lowest)
        .with_max_version(highest);
    let finalized = FinalizedFeatureKey::default()
        .with_name(text(name))
        .with_min_version_level(highest)
        .with_max_version_level(highest);
    let applied = broker.image().applied;
    response
        .with_supported_features(vec![supported])
        .with_finalized_features(vec![finalized])
        .with_finalized_features_epoch(i64::try_from(applied).unwrap_or(i64::MAX))
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
    use super::is_software_name;

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
