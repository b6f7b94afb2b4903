//! Subscriptions by pattern: when patterns are looked up, and what their results change.
//!
//! All of a group's patterns are resolved together, so that a new topic raises the epoch once.

use std::collections::{BTreeMap, BTreeSet};

use super::{ConsumerGroup, Name, Outcome, REGEX_REFRESH_MIN_MS, Record, ResolvedRegex, Topics};

impl ConsumerGroup {
    fn patterns(&self) -> BTreeSet<Name> {
        self.members
            .values()
            .filter_map(|member| member.metadata.pattern())
            .cloned()
            .collect()
    }

    /// The patterns to resolve now, if that is due and not under way.
    pub(super) fn regexes_to_resolve(&mut self, now_ms: u64) -> Vec<Name> {
        let patterns = self.patterns();
        if patterns.is_empty() || self.is_resolving {
            return Vec::new();
        }
        let age_ms = self.resolved_at_ms.map(|at| now_ms.saturating_sub(at));
        let is_due = match age_ms {
            None => true,
            Some(age_ms) if age_ms < REGEX_REFRESH_MIN_MS => false,
            Some(age_ms) => {
                self.are_regexes_stale
                    || age_ms >= self.config.regex_refresh_interval_ms
                    || (patterns.iter()).any(|pattern| !self.regexes.contains_key(pattern))
            }
        };
        if !is_due {
            return Vec::new();
        }
        self.is_resolving = true;
        self.are_regexes_stale = false;
        patterns.into_iter().collect()
    }

    /// What patterns stand for, found in the names of all topics that the members may see; an
    /// empty map if that failed, and then it is tried again.
    pub fn regexes_resolved(
        &mut self,
        now_ms: u64,
        results: BTreeMap<Name, ResolvedRegex>,
        topics: &dyn Topics,
    ) -> Outcome<()> {
        let mut records = Vec::new();
        let failed = results.is_empty();
        self.is_resolving = false;
        self.are_regexes_stale |= failed;
        self.resolved_at_ms = Some(now_ms);
        let used = self.patterns();
        let mut must = false;
        for (pattern, resolved) in results {
            // Whoever wanted it may have gone, or want something else.
            if !used.contains(&pattern) {
                continue;
            }
            let before = self.regexes.get(&pattern).map(|before| &before.topics);
            must |= before.map_or(!resolved.topics.is_empty(), |before| {
                *before != resolved.topics
            });
            self.commit(Record::Regex(pattern, Some(resolved)), &mut records);
        }
        if must {
            self.raise_epoch(true, topics, &mut records);
        }
        Outcome {
            records,
            resolve: Vec::new(),
            answer: Ok(()),
        }
    }

    /// Takes away what nobody subscribes to any more.
    pub(super) fn drop_unused_regexes(&mut self, records: &mut Vec<Record>) {
        let used = self.patterns();
        let unused: Vec<_> = self
            .regexes
            .keys()
            .filter(|pattern| !used.contains(*pattern))
            .cloned()
            .collect();
        for pattern in unused {
            self.commit(Record::Regex(pattern, None), records);
        }
    }
}
