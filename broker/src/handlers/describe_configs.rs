//! DescribeConfigs, key 32, versions 1 to 4.
//!
//! - Every config of a topic or of this broker, with its source, synonyms when asked for (1+), type
//!   and documentation when asked for (3+, KIP-569). The cluster's own (a broker with no name) are
//!   only those that are set.
//! - Sensitive values are null. A config without meaning here says so in its documentation.

use std::collections::{BTreeMap, BTreeSet};

use controller::{ConfigResource, Image};
use protocol::ErrorCode;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse, StrBytes};

use super::config_resources::{Named, Refused};
use super::text;
use crate::auth::Operation;
use crate::broker::Broker;
use crate::config::topics::{Origin, TopicKey};
use crate::config::{Key, Kind, Source, keys, topics};
use crate::context::RequestContext;
use crate::limits::MAX_REQUEST_ENTRIES;
use crate::topics::overlays;

/// What of a config the client asked to see.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
    version: i16,
}

pub(crate) fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
        version: context.version,
    };
    let image = broker.image();
    let mut seen = BTreeSet::new();
    let mut results = Vec::new();
    for resource in request.resources {
        let name = resource.resource_name.to_string();
        // Whoever asks twice is answered once.
        if !seen.insert((resource.resource_type, name)) {
            continue;
        }
        let answer = DescribeConfigsResult::default().with_resource_type(resource.resource_type);
        let told = if results.len() < MAX_REQUEST_ENTRIES {
            describe(broker, context, &image, &resource, detail)
        } else {
            let message = format!("more than {MAX_REQUEST_ENTRIES} resources");
            Err((ErrorCode::InvalidRequest, message))
        };
        let answer = answer.with_resource_name(resource.resource_name);
        results.push(match told {
            Ok(configs) => answer.with_configs(configs),
            Err((code, message)) => answer
                .with_error_code(code.code())
                .with_error_message(Some(text(message))),
        });
    }
    DescribeConfigsResponse::default().with_results(results)
}

fn describe(
    broker: &Broker,
    context: &RequestContext,
    image: &Image,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let asked = (resource.resource_type, resource.resource_name.as_str());
    let named = Named::find(broker, context, image, asked, Operation::DescribeConfigs)?;
    // Null and empty both mean all, as in Kafka.
    let wanted = resource
        .configuration_keys
        .as_deref()
        .filter(|names| !names.is_empty());
    let is_wanted = |name: &str| wanted.is_none_or(|w: &[StrBytes]| w.iter().any(|n| n == name));
    Ok(match named {
        Named::Topic(topic) => {
            let over = overlays(&broker.config, image, &topic.configs);
            let rows = topics::all().iter().filter(|key| is_wanted(key.name));
            rows.map(|key| topic_entry(key, over.find(key), detail))
                .collect()
        }
        Named::Broker => {
            let rows = keys::all().iter().filter(|key| is_wanted(key.name));
            rows.map(|key| broker_entry(broker, image, key, detail))
                .collect()
        }
        Named::Cluster => {
            let nothing = BTreeMap::new();
            let set = image
                .configs
                .get(&ConfigResource::Cluster)
                .unwrap_or(&nothing);
            let rows = set.iter().filter(|(name, _)| is_wanted(name));
            let rows = rows.filter_map(|(name, value)| Some((keys::find(name)?, value)));
            let entry = |(key, value): (&'static Key, &String)| {
                let found = vec![(value.clone(), Origin::DynamicDefaultBroker)];
                key_entry(key, found, detail)
            };
            rows.map(entry).collect()
        }
    })
}

fn topic_entry(
    key: &'static TopicKey,
    found: Vec<topics::Found>,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let effective = found.first().expect("a config has a value somewhere");
    let answer = DescribeConfigsResourceResult::default()
        .with_name(text(key.name))
        .with_value(Some(text(effective.value.clone())))
        .with_config_source(effective.origin as i8);
    let synonym = |found: &topics::Found| {
        DescribeConfigsSynonym::default()
            .with_name(text(found.name))
            .with_value(Some(text(found.value.clone())))
            .with_source(found.origin as i8)
    };
    let synonyms = found.iter().map(synonym).collect();
    finish(answer, synonyms, key.kind.config_type(), key.doc, detail)
}

fn broker_entry(
    broker: &Broker,
    image: &Image,
    key: &'static Key,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let mut found = Vec::new();
    let layers = [
        (
            ConfigResource::Broker(broker.config.node_id),
            Origin::DynamicBroker,
        ),
        (ConfigResource::Cluster, Origin::DynamicDefaultBroker),
    ];
    for (layer, origin) in layers {
        let value = image
            .configs
            .get(&layer)
            .and_then(|values| values.get(key.name));
        found.extend(value.map(|value| (value.clone(), origin)));
    }
    let fixed = broker.config.values.get(key.name);
    if fixed.source != Source::Default {
        found.push((fixed.text.clone(), Origin::StaticBroker));
    } else if key.name == "log.dirs" {
        // Kafka's name of where the data lies, whatever set it.
        let place = broker.config.data_dir.to_string_lossy().into_owned();
        found.push((place, Origin::StaticBroker));
    }
    found.push((key.default.to_owned(), Origin::Default));
    key_entry(key, found, detail)
}

/// An entry of the broker's table; the effective value first.
fn key_entry(
    key: &'static Key,
    found: Vec<(String, Origin)>,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    // A number that is not set is null, and no empty text, which clients could not parse.
    let number = matches!(key.kind, Kind::Int { .. } | Kind::Long { .. });
    let hidden = |value: &String| key.sensitive || (number && value.is_empty());
    let shown = |value: &String| (!hidden(value)).then(|| text(value.clone()));
    let (value, origin) = found.first().expect("a config has a value somewhere");
    let answer = DescribeConfigsResourceResult::default()
        .with_name(text(key.name))
        .with_value(shown(value))
        .with_read_only(!key.dynamic)
        .with_is_sensitive(key.sensitive)
        .with_config_source(*origin as i8);
    let synonym = |(value, origin): &(String, Origin)| {
        DescribeConfigsSynonym::default()
            .with_name(text(key.name))
            .with_value(shown(value))
            .with_source(*origin as i8)
    };
    let synonyms = found.iter().map(synonym).collect();
    finish(answer, synonyms, key.kind.config_type(), key.doc, detail)
}

fn finish(
    answer: DescribeConfigsResourceResult,
    synonyms: Vec<DescribeConfigsSynonym>,
    config_type: i8,
    documentation: &str,
    detail: Detail,
) -> DescribeConfigsResourceResult {
    let answer = if detail.synonyms {
        answer.with_synonyms(synonyms)
    } else {
        answer
    };
    if detail.version < 3 {
        return answer;
    }
    let documentation = detail.documentation.then(|| text(documentation));
    answer
        .with_config_type(config_type)
        .with_documentation(documentation)
}
