//! The topics inside a consumer's subscription bytes.
//!
//! Layout of every version: int16 version, array (int32) of topic names (int16 length), user data;
//! later versions add fields behind. Only the topics are read, the rest is the assignor's.

use std::collections::BTreeSet;

use super::api::Name;
use super::record::wire::Reader;

/// The protocol type of consumers.
pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics a `consumer` member subscribes to; none if the bytes are not a subscription.
pub(super) fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<Name>> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16("version").ok()?;
    if version < 0 {
        return None;
    }
    let count = usize::try_from(reader.i32("topics").ok()?).ok()?;
    // Every name takes at least its two bytes of length.
    if count > reader.remaining() / 2 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        topics.insert(Name::from(reader.string("topic").ok()?));
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_damage_is_none() {
        let bytes = b"\0\x01\0\0\0\x02\0\x01a\0\x02bb\0\0\0\0";
        let topics = subscribed_topics(bytes).unwrap();
        assert_eq!(topics.iter().map(|t| &**t).collect::<Vec<_>>(), ["a", "bb"]);
        for end in 0..13 {
            assert_eq!(subscribed_topics(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(subscribed_topics(b"\0\x01\x7f\xff\xff\xff"), None);
        assert_eq!(subscribed_topics(b"\0\x01\xff\xff\xff\xff"), None);
    }
}
