//! Kafka's rules for the names of topics.

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
    if !name.contains(['.', '_']) {
        return None;
    }
    let plain = |name: &str| name.replace('.', "_");
    let wanted = plain(name);
    image
        .topics
        .keys()
        .map(|known| &**known)
        .find(|known| *known != name && plain(known) == wanted)
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
}
