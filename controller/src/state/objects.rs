//! Objects, counted by the slices that name them. What nobody names is condemned.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Name;
use crate::error::Refusal;
use crate::limits::{MAX_DIGEST_BYTES, MAX_KEY_BYTES};
use crate::types::{Digest, ObjectRef};

/// Number of an object within this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ObjectId(pub(crate) u64);

/// An object that slices name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) key: Name,
    pub(crate) length: u64,
    pub(crate) digest: Digest,
    /// Slices that name it.
    pub(crate) references: u64,
}

/// All objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) last_id: u64,
    pub(crate) by_id: BTreeMap<ObjectId, Object>,
    by_key: BTreeMap<Name, ObjectId>,
    condemned: BTreeMap<Name, i64>,
    /// Oldest first.
    condemned_by_time: BTreeSet<(i64, Name)>,
}

// === impl Objects ===

impl Objects {
    /// That a command may name `object`: it is new, or the very one that stands.
    pub(super) fn check(&self, object: &ObjectRef) -> Result<(), Refusal> {
        if object.key.is_empty() || object.key.len() > MAX_KEY_BYTES {
            return Err(Refusal::invalid(format!(
                "object key of {} bytes",
                object.key.len()
            )));
        }
        if object.digest.bytes().len() > MAX_DIGEST_BYTES {
            return Err(Refusal::invalid("an object's digest is too long"));
        }
        if self.condemned.contains_key(object.key.as_str()) {
            return Err(Refusal::invalid(format!(
                "object {} is condemned",
                object.key
            )));
        }
        let standing = self
            .by_key
            .get(object.key.as_str())
            .map(|id| &self.by_id[id]);
        let differs = |it: &Object| it.length != object.length || it.digest != object.digest;
        if standing.is_some_and(differs) && !env::planted!("digest-not-compared") {
            let reason = format!("object {} stands with another length or digest", object.key);
            return Err(Refusal::Corrupt { reason });
        }
        Ok(())
    }

    /// Counts one more slice that names `object`.
    pub(super) fn reference(&mut self, object: &ObjectRef) -> ObjectId {
        if let Some(id) = self.by_key.get(object.key.as_str()) {
            self.by_id
                .get_mut(id)
                .expect("keys name what stands")
                .references += 1;
            return *id;
        }
        self.last_id += 1;
        let id = ObjectId(self.last_id);
        self.restore(
            id,
            Object {
                key: object.key.as_str().into(),
                length: object.length,
                digest: object.digest.clone(),
                references: 1,
            },
        );
        id
    }

    /// Counts one slice fewer; the last one condemns the object.
    pub(super) fn release(&mut self, id: ObjectId, now_ms: i64) {
        let object = self.by_id.get_mut(&id).expect("slices name what stands");
        object.references -= 1;
        if object.references == 0 || env::planted!("named-is-condemned") {
            let object = self.by_id.remove(&id).expect("just seen");
            self.by_key.remove(&object.key);
            self.condemn(object.key, now_ms);
        }
    }

    /// Condemns `key` unless a slice names it.
    pub(super) fn condemn_unnamed(&mut self, key: &str, now_ms: i64) {
        if !self.by_key.contains_key(key) && !self.condemned.contains_key(key) {
            self.condemn(key.into(), now_ms);
        }
    }

    /// Puts back an object from a snapshot.
    pub(super) fn restore(&mut self, id: ObjectId, object: Object) {
        self.by_key.insert(object.key.clone(), id);
        self.by_id.insert(id, object);
    }

    /// Condemns; also puts back from a snapshot.
    pub(super) fn condemn(&mut self, key: Name, at_ms: i64) {
        self.condemned_by_time.insert((at_ms, key.clone()));
        self.condemned.insert(key, at_ms);
    }

    pub(super) fn forget(&mut self, keys: &[String]) {
        for key in keys {
            if let Some((key, at_ms)) = self.condemned.remove_entry(key.as_str()) {
                self.condemned_by_time.remove(&(at_ms, key));
            }
        }
    }

    /// Condemned objects, oldest first.
    pub(crate) fn condemned(&self) -> impl Iterator<Item = (i64, &Name)> {
        self.condemned_by_time
            .iter()
            .map(|(at_ms, key)| (*at_ms, key))
    }

    /// Those behind an object, whether it is condemned still or not.
    pub(crate) fn condemned_after(
        &self,
        after: Option<(i64, &str)>,
    ) -> impl Iterator<Item = (i64, &Name)> {
        let from = match after {
            Some((at_ms, key)) => Bound::Excluded((at_ms, Name::from(key))),
            None => Bound::Unbounded,
        };
        let condemned = self.condemned_by_time.range((from, Bound::Unbounded));
        condemned.map(|(at_ms, key)| (*at_ms, key))
    }

    /// True when a slice names it.
    pub(super) fn names(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// True when a slice names it, or it is condemned and not yet forgotten.
    pub(crate) fn knows(&self, key: &str) -> bool {
        self.by_key.contains_key(key) || self.condemned.contains_key(key)
    }

    pub(crate) fn get(&self, id: ObjectId) -> &Object {
        &self.by_id[&id]
    }
}
