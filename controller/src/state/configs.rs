//! Configuration entries of topics, brokers and the cluster. What the names mean, and which values
//! are good, is the broker's to say before it asks.

use std::collections::BTreeMap;

use super::{Answer, Effects, State};
use crate::command::{ConfigOp, ConfigResource, Response};
use crate::error::Refusal;
use crate::limits::{MAX_CONFIG_VALUE_BYTES, MAX_CONFIGS_PER_RESOURCE, MAX_NAME_BYTES};

/// Entries that are set, by name.
pub(crate) type Configs = BTreeMap<String, String>;

impl State {
    /// What a resource's entries would be after `changes` (Kafka's `validate_only`).
    pub(crate) fn changed_configs(
        &self,
        resource: &ConfigResource,
        changes: &[(String, ConfigOp)],
        replace: bool,
    ) -> Result<Configs, Refusal> {
        let standing = match resource {
            ConfigResource::Topic(name) => match self.topics.by_name(name) {
                Some(topic) => Some(&topic.configs),
                None => return Err(Refusal::UnknownTopic { name: name.clone() }),
            },
            ConfigResource::Broker(_) | ConfigResource::Cluster => self.configs.get(resource),
        };
        let mut configs = Configs::new();
        if let (Some(standing), false) = (standing, replace) {
            configs.clone_from(standing);
        }
        for (name, op) in changes {
            change(&mut configs, name, op);
        }
        check_configs(&configs)?;
        Ok(configs)
    }

    pub(super) fn alter_configs(
        &mut self,
        resource: &ConfigResource,
        changes: &[(String, ConfigOp)],
        replace: bool,
        effects: &mut Effects,
    ) -> Answer {
        let configs = self.changed_configs(resource, changes, replace)?;
        match resource {
            ConfigResource::Topic(name) => {
                let id = self.topics.by_name(name).expect("found above").id;
                self.topics.get_mut(id).expect("found by name").configs = configs;
                effects.topics.insert(id);
            }
            ConfigResource::Broker(_) | ConfigResource::Cluster => {
                if configs.is_empty() {
                    self.configs.remove(resource);
                } else {
                    self.configs.insert(resource.clone(), configs);
                }
                effects.cluster = true;
            }
        }
        Ok(Response::Done)
    }
}

fn change(configs: &mut Configs, name: &str, op: &ConfigOp) {
    match op {
        ConfigOp::Set(value) => {
            configs.insert(name.to_owned(), value.clone());
        }
        ConfigOp::Delete => {
            configs.remove(name);
        }
        ConfigOp::Append { value, default } => {
            let mut list = items(configs.get(name).unwrap_or(default));
            for item in items(value) {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
            configs.insert(name.to_owned(), list.join(","));
        }
        ConfigOp::Subtract { value, default } => {
            let mut list = items(configs.get(name).unwrap_or(default));
            let gone = items(value);
            list.retain(|item| !gone.contains(item));
            configs.insert(name.to_owned(), list.join(","));
        }
    }
}

fn items(list: &str) -> Vec<String> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

pub(super) fn check_configs(configs: &Configs) -> Result<(), Refusal> {
    if configs.len() > MAX_CONFIGS_PER_RESOURCE {
        return Err(Refusal::limit("configuration entries"));
    }
    for (name, value) in configs {
        let reason = if name.is_empty() || name.len() > MAX_NAME_BYTES {
            format!("a name of {} bytes", name.len())
        } else if value.len() > MAX_CONFIG_VALUE_BYTES {
            format!("a value of {} bytes", value.len())
        } else {
            continue;
        };
        let mut name = name.clone();
        name.truncate(name.floor_char_boundary(MAX_NAME_BYTES));
        return Err(Refusal::InvalidConfig { name, reason });
    }
    Ok(())
}
