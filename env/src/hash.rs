//! Hash maps without a seed of their own, so that a simulation replays.
//!
//! For keys that we make (ids, offsets). Keys that clients name belong in a `BTreeMap`, which no
//! chosen keys can slow down.

use foldhash::fast::FixedState;

/// A hash map for keys of our own making.
pub type HashMap<K, V> = std::collections::HashMap<K, V, FixedState>;
/// A hash set for keys of our own making.
pub type HashSet<K> = std::collections::HashSet<K, FixedState>;
