//! Patterns of topic names, in RE2's syntax, which is what clients of Kafka are promised.
//!
//! The engine is another one of RE2's kind: linear in time, no back references, no looking
//! around. Where it reads characters in another way, a pattern is written anew for it: RE2 quotes
//! with `\Q...\E`, takes a brace that repeats nothing as itself, and has no operators within a
//! class. Flags that RE2 has not are refused.

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use super::REGEX_COMPILED_BYTES_MAX;

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {reason}.")]
pub struct InvalidPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it, in one line.
    pub reason: String,
}

/// A pattern that whole names are compared with.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// If it is none of RE2's, or gets too large.
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        let invalid = |reason: String| InvalidPattern {
            pattern: pattern.to_owned(),
            reason,
        };
        let translated = translate(pattern).map_err(|reason| invalid(reason.into()))?;
        // By itself first: `a)(b` must not become valid by what is put around it.
        build(&translated).map_err(invalid)?;
        build(&format!(r"\A(?:{translated})\z"))
            .map(Self)
            .map_err(invalid)
    }

    /// Whether the whole of a name matches.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_COMPILED_BYTES_MAX)
        .build()
        .map_err(|error| match error {
            regex::Error::Syntax(text) => {
                let last = text.lines().next_back().unwrap_or_default();
                last.trim_start_matches("error: ").to_owned()
            }
            regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
            other => other.to_string(),
        })
}

/// Writes a pattern of RE2's as the engine reads it.
fn translate(pattern: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (text, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(text));
            rest = after;
            continue;
        }
        let taken = match first {
            '\\' => rest.chars().take(2).map(char::len_utf8).sum(),
            '[' => class(rest, &mut out),
            '(' => {
                check_group(rest)?;
                1
            }
            '{' => repetition(rest).unwrap_or_else(|| {
                out.push('\\');
                1
            }),
            _ => first.len_utf8(),
        };
        if first != '[' {
            out.push_str(&rest[..taken]);
        }
        rest = &rest[taken..];
    }
    Ok(out)
}

/// RE2 has names, and the flags i, m, s and U.
fn check_group(rest: &str) -> Result<(), &'static str> {
    let Some(flags) = rest.strip_prefix("(?") else {
        return Ok(());
    };
    if flags.starts_with("P<") || flags.starts_with('<') {
        return Ok(());
    }
    match flags.chars().find(|flag| !"imsU-".contains(*flag)) {
        Some(':' | ')') => Ok(()),
        _ => Err("unknown flags of a group"),
    }
}

/// The length of `{n}`, `{n,}` or `{n,m}`.
fn repetition(rest: &str) -> Option<usize> {
    let end = rest.find('}')?;
    let (least, most) = match rest[1..end].split_once(',') {
        Some((least, most)) => (least, most),
        None => (&rest[1..end], ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

/// Writes a class, in which only RE2's characters are special; the length of what was read.
fn class(rest: &str, out: &mut String) -> usize {
    let mut at = 1;
    out.push('[');
    if rest[at..].starts_with('^') {
        out.push('^');
        at += 1;
    }
    let mut is_first = true;
    while let Some(next) = rest[at..].chars().next() {
        let mut length = next.len_utf8();
        match next {
            ']' if !is_first => {
                out.push(']');
                return at + 1;
            }
            '[' if rest[at..].starts_with("[:") && rest[at..].contains(":]") => {
                length = rest[at..].find(":]").map_or(length, |end| end + 2);
                out.push_str(&rest[at..at + length]);
            }
            '\\' => {
                length = rest[at..].chars().take(2).map(char::len_utf8).sum();
                out.push_str(&rest[at..at + length]);
            }
            '[' | ']' | '&' | '~' => {
                out.push('\\');
                out.push(next);
            }
            _ => out.push(next),
        }
        at += length;
        is_first = false;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).unwrap().matches(name)
    }

    #[test]
    fn whole_names_are_compared() {
        assert!(matches("a|ab", "ab") && !matches("a|ab", "abc"));
        assert!(matches("orders.*", "orders-1") && !matches("orders.*", "x-orders"));
        assert!(matches("^a$", "a") && matches("(?i)A+", "aA"));
        assert!(matches("", "") && !matches("", "a"));
    }

    #[test]
    fn what_re2_reads_otherwise_is_written_anew() {
        assert!(matches(r"\Qa.b\E+", "a.bb") && !matches(r"\Qa.b\E+", "axb"));
        assert!(matches(r"\Qa.b", "a.b"));
        assert!(matches("a{b", "a{b") && matches("a{2}", "aa") && matches("a{1,2}", "a"));
        assert!(matches("[a&&b]", "&") && matches("[[a]+", "[a"));
        assert!(matches("[]a]+", "]a") && matches("[^]a]", "b") && matches("[[:alpha:]]", "q"));
        assert!(matches(r"[\]\-]+", "]-") && matches("[a~~b]", "~"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for pattern in [
            "a)(b",
            "(",
            "[a",
            "*",
            r"\",
            "(?x)a",
            "(?=a)",
            r"(a)\1",
            "(?P<n",
            "a{9999}{9999}",
        ] {
            let error = Pattern::new(pattern).unwrap_err();
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}
