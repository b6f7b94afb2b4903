//! Kafka's rules for the names of topics.

use std::ops::Bound;

use controller::Image;

use crate::limits::MAX_TOPIC_NAME;

/// The topic that holds committed offsets.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// The topic that will hold transactions.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";

/// Topics of our own that clients may not produce to.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE)
}

/// Topics that clients are told are internal: Kafka's share groups' state too, though nothing of
/// ours keeps clients from it.
pub(crate) fn is_shown_internal(name: &str) -> bool {
    is_internal(name) || name == "__share_group_state"
}

/// What is wrong with a name, if anything.
pub(crate) fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Some(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > MAX_TOPIC_NAME {
        return Some(format!(
            "the name is longer than {MAX_TOPIC_NAME} characters"
        ));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return Some(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
        ));
    }
    None
}

/// The topic whose name differs from `name` only in `.` and `_`, if there is one: their metrics
/// would be the same in Kafka, which refuses it.
pub(crate) fn collision<'a>(image: &'a Image, name: &str) -> Option<&'a str> {
    // Such a name has the same beginning, then either mark; only those are looked at.
    let (beginning, _) = name.split_once(['.', '_'])?;
    ['.', '_'].into_iter().find_map(|mark| {
        let first = format!("{beginning}{mark}");
        let from = (Bound::Included(first.as_str()), Bound::Unbounded);
        image
            .topics
            .range::<str, _>(from)
            .map(|(known, _)| &**known)
            .take_while(|known| known.starts_with(&first))
            .find(|known| *known != name && differ_in_marks_only(known, name))
    })
}

fn differ_in_marks_only(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one.len() == other.len() && one.bytes().map(plain).eq(other.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "a.b_c-D9", "...", &"x".repeat(249)] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", "a\0", &"x".repeat(250)] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn names_that_differ_in_marks_only_collide() {
        let mut image = Image::default();
        for name in ["a", "a.b_c", "ab", "x_", "z"] {
            let topic = controller::TopicImage {
                name: name.into(),
                id: protocol::TopicId::default(),
                internal: false,
                created_ms: 0,
                configs: std::collections::BTreeMap::new(),
                partitions: Vec::new(),
            };
            let topics = std::sync::Arc::make_mut(&mut image.topics);
            topics.insert(name.into(), std::sync::Arc::new(topic));
        }
        for other in ["a.b.c", "a_b_c", "a_b.c"] {
            assert_eq!(collision(&image, other), Some("a.b_c"), "{other}");
        }
        assert_eq!(collision(&image, "x."), Some("x_"));
        for free in ["a.b_c", "a.bc", "a_b", "a.b.c.", "a-b_c", "x", "y.", "."] {
            assert_eq!(collision(&image, free), None, "{free}");
        }
    }
}
