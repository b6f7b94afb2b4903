//! `headwater cluster describe|finalize|unregister`.

use anyhow::{Result, bail};
use controller::{NEWEST_LEVEL, VERSION_FEATURE};
use env::Env;
use protocol::Response;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, DescribeConfigsRequest, UnregisterBrokerRequest,
    UpdateFeaturesRequest,
};
use serde_json::json;

use crate::cli::output::{Format, Rows, line};
use crate::cli::remote::{Remote, text};
use crate::client::{Cluster, Error};

/// Kafka's number for an update that raises a level.
const UPGRADE: i8 = 1;
/// Kafka's number for a broker, in requests about configurations.
const BROKER: i8 = 4;

pub(super) async fn describe(env: &Env, remote: &Remote) -> Result<()> {
    let mut cluster = remote.cluster(env).await?;
    let request = DescribeClusterRequest::default().with_include_fenced_brokers(true);
    let Response::DescribeCluster(answer) = cluster.call(request).await? else {
        bail!("not an answer to DescribeCluster")
    };
    let message = answer.error_message.as_deref();
    Error::check("the cluster", answer.error_code, message)?;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("headwater"))
        .with_client_software_version(text(env!("CARGO_PKG_VERSION")));
    let Response::ApiVersions(versions) = cluster.call(request).await? else {
        bail!("not an answer to ApiVersions")
    };
    let mut features = Rows::new(&["feature", "level"]);
    for feature in &versions.finalized_features {
        let level = feature.max_version_level;
        features.push(vec![json!(feature.name.to_string()), json!(level)]);
    }
    let mut brokers = Rows::new(&["node", "host", "port", "rack", "state", "lease_ms"]);
    // So that the brokers' addresses are known.
    cluster.metadata(Some(&[])).await?;
    for broker in &answer.brokers {
        let lease = match broker.is_fenced {
            true => None,
            false => lease_ms(&mut cluster, broker.broker_id.0).await,
        };
        brokers.push(vec![
            json!(broker.broker_id.0),
            json!(broker.host.to_string()),
            json!(broker.port),
            json!(broker.rack.as_ref().map(|rack| rack.to_string())),
            json!(if broker.is_fenced { "fenced" } else { "live" }),
            json!(lease),
        ]);
    }
    let id = answer.cluster_id.to_string();
    match remote.output {
        Format::Table => {
            line(format!("Cluster {id}\n"))?;
            brokers.print(remote.output)?;
            line("")?;
            features.print(remote.output)?;
        }
        Format::Json => {
            let parse = |rows: &Rows| -> serde_json::Result<serde_json::Value> {
                serde_json::from_str(&rows.render(remote.output))
            };
            let whole = json!({
                "cluster": id,
                "brokers": parse(&brokers)?,
                "features": parse(&features)?,
            });
            line(format!("{whole:#}"))?;
        }
    }
    Ok(())
}

/// The broker's own `lease.ms`, if it answers. They should be the same: what counts for a broker is
/// the shorter one of its own and that of the controllers' leader.
async fn lease_ms(cluster: &mut Cluster, node: i32) -> Option<i64> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&node.to_string()))
        .with_configuration_keys(Some(vec![text("lease.ms")]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answered = cluster.call_node(node, request, i16::MAX).await;
    let Ok(Response::DescribeConfigs(answer)) = answered else {
        return None;
    };
    let found = answer
        .results
        .into_iter()
        .next()?
        .configs
        .into_iter()
        .next()?;
    found.value?.parse().ok()
}

pub(super) async fn finalize(env: &Env, remote: &Remote, level: Option<u16>) -> Result<()> {
    let level = level.unwrap_or(NEWEST_LEVEL);
    let update = FeatureUpdateKey::default()
        .with_feature(text(VERSION_FEATURE))
        .with_max_version_level(i16::try_from(level)?)
        .with_upgrade_type(UPGRADE);
    let request = UpdateFeaturesRequest::default()
        .with_timeout_ms(remote.timeout_ms())
        .with_feature_updates(vec![update]);
    let mut cluster = remote.cluster(env).await?;
    let Response::UpdateFeatures(answer) = cluster.call(request).await? else {
        bail!("not an answer to UpdateFeatures")
    };
    let message = answer.error_message.as_deref();
    Error::check(VERSION_FEATURE, answer.error_code, message)?;
    for result in &answer.results {
        let message = result.error_message.as_deref();
        Error::check(result.feature.as_str(), result.error_code, message)?;
    }
    line(format!("{VERSION_FEATURE} is {level}."))?;
    Ok(())
}

pub(super) async fn unregister(env: &Env, remote: &Remote, node: i32) -> Result<()> {
    let request = UnregisterBrokerRequest::default().with_broker_id(node.into());
    let mut cluster = remote.cluster(env).await?;
    let Response::UnregisterBroker(answer) = cluster.call(request).await? else {
        bail!("not an answer to UnregisterBroker")
    };
    let what = format!("broker {node}");
    Error::check(&what, answer.error_code, answer.error_message.as_deref())?;
    line(format!("Broker {node} is let go of."))?;
    Ok(())
}
