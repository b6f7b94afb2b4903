//! UpdateFeatures, key 57, versions 0 to 2 (KIP-584, KIP-778).
//!
//! - `headwater.version` is raised when every voter's and every live broker's build knows the level.
//!   It never goes back, whatever kind of downgrade is asked for: the log may hold what older builds
//!   cannot read.
//! - `metadata.version` stands for the messages that are served, and is what it is: asking for that
//!   is done already.
//! - All or nothing. 1+: the kind of update, and `validate_only`, which looks at the level but asks no
//!   other node. 2+: one error for the whole instead of one per feature.

use std::collections::BTreeSet;

use controller::{Command, VERSION_FEATURE};
use protocol::ErrorCode;
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::update_features_response::UpdatableFeatureResult;
use protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use tokio::time::timeout_at;

use super::api_versions::METADATA_VERSION;
use super::text;
use crate::auth::{Operation, Resource};
use crate::broker::Broker;
use crate::context::RequestContext;
use crate::error::controller_code;

type Refused = (ErrorCode, String);

pub(crate) async fn handle(
    broker: &Broker,
    context: &RequestContext,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let answer = UpdateFeaturesResponse::default();
    if !broker.allows(context, Operation::Alter, Resource::Cluster) {
        return answer.with_error_code(ErrorCode::ClusterAuthorizationFailed.code());
    }
    let updates = &request.feature_updates;
    let names: BTreeSet<_> = updates
        .iter()
        .map(|update| update.feature.as_str())
        .collect();
    if names.len() != updates.len() || updates.is_empty() {
        let what = "each feature is named once, and there is at least one";
        return whole(answer, &(ErrorCode::InvalidRequest, what.to_owned()));
    }
    let validate_only = context.version >= 1 && request.validate_only;
    let deadline = broker.deadline(context, request.timeout_ms);
    let mut outcomes: Vec<Result<Option<Command>, Refused>> = Vec::new();
    for update in updates {
        outcomes.push(judge(broker, context.version, update).await);
    }
    // Of all that may change only one does: nothing can stay half done.
    if !validate_only && outcomes.iter().all(Result::is_ok) {
        for outcome in &mut outcomes {
            let Ok(Some(command)) = outcome.clone() else {
                continue;
            };
            let submitted = timeout_at(deadline, broker.controller.submit(command)).await;
            if let Some(refused) = match submitted {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(refused(&error)),
                Err(_) => Some((ErrorCode::RequestTimedOut, "no answer in time".to_owned())),
            } {
                *outcome = Err(refused);
            }
        }
    }
    let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    match failed {
        Some(failed) if context.version >= 2 => whole(answer, failed),
        _ if context.version >= 2 => answer,
        failed => {
            let kept = (
                ErrorCode::FeatureUpdateFailed,
                "another update of the request was refused".to_owned(),
            );
            let results = updates.iter().zip(&outcomes).map(|(update, outcome)| {
                let result = UpdatableFeatureResult::default().with_feature(update.feature.clone());
                match outcome.as_ref().err().or(failed.map(|_| &kept)) {
                    None => result,
                    Some((code, why)) => result
                        .with_error_code(code.code())
                        .with_error_message(Some(text(why.clone()))),
                }
            });
            answer.with_results(results.collect())
        }
    }
}

fn whole(answer: UpdateFeaturesResponse, (code, why): &Refused) -> UpdateFeaturesResponse {
    answer
        .with_error_code(code.code())
        .with_error_message(Some(text(why.clone())))
}

/// What is to be done for an update, if anything.
async fn judge(
    broker: &Broker,
    version: i16,
    update: &FeatureUpdateKey,
) -> Result<Option<Command>, Refused> {
    if version >= 1 && !(1..=3).contains(&update.upgrade_type) {
        let why = format!("upgrade type {}", update.upgrade_type);
        return Err((ErrorCode::InvalidRequest, why));
    }
    let invalid = |why: String| Err((ErrorCode::InvalidUpdateVersion, why));
    let level = update.max_version_level;
    let (metadata, _, standing) = METADATA_VERSION;
    if update.feature.as_str() == metadata {
        return match level == standing {
            true => Ok(None),
            false => invalid(format!("{metadata} is {standing} in this build, and fixed")),
        };
    }
    if update.feature.as_str() != VERSION_FEATURE {
        return invalid("the feature is not known".to_owned());
    }
    let Ok(level) = u16::try_from(level) else {
        return invalid(format!("{level} is no level"));
    };
    if level == broker.image().level() {
        return Ok(None);
    }
    let name = VERSION_FEATURE.to_owned();
    let command = Command::FinalizeFeature { name, level };
    match broker.controller.check(&command).await {
        Ok(()) => Ok(Some(command)),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &controller::Error) -> Refused {
    let code = match controller_code(error) {
        ErrorCode::InvalidRequest => ErrorCode::InvalidUpdateVersion,
        // Somebody could not be asked whether its build knows the level.
        ErrorCode::RequestTimedOut if error.refusal().is_some() => ErrorCode::FeatureUpdateFailed,
        code => code,
    };
    (code, error.to_string())
}
