//! I9: within so long of healing every partition takes writes and every group progresses. The
//! world checks it as it heals.

use std::time::Duration;

/// Every partition is read and written.
pub(crate) const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// The group has got all there is. Longer, since a session and a rebalance may have to run out, and
/// members read a backlog in small pieces meanwhile.
pub(crate) const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// And for each record that is left when troubles end: members of the group come and go, and read some
/// ten thousand records of one partition in a minute.
pub(crate) const DELIVERED_PACE: Duration = Duration::from_millis(10);
