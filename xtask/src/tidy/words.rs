//! Words that may not stand in the code, or only in named places.

use super::Finding;
use super::source::{Source, line_of};

/// Refused everywhere, and why.
const REFUSED: &[(&str, &str)] = &[
    ("todo!", "write it, or leave it out"),
    ("unimplemented!", "write it, or leave it out"),
    ("#[ignore", "a test runs, or is deleted"),
    ("unbounded_channel", "every queue has a bound"),
    ("UnboundedSender", "every queue has a bound"),
    ("mpsc::unbounded", "every queue has a bound"),
    ("dbg!", "left over from debugging"),
];

/// Single exceptions: path, word, and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "env/src/sim/threads.rs",
    "nbounded",
    "simulated threads: each user has a fixed number of jobs in flight",
)];

/// The modules that may hold unsafe code: path, and the reason.
const UNSAFE: &[(&str, &str)] = &[
    (
        "tests/sim/interpose.rs",
        "replaces the C library's clock and entropy in the simulation",
    ),
    (
        "tests/sim/interpose/",
        "replaces the C library's clock and entropy in the simulation",
    ),
];

/// Checks a file for words.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |at: usize, rule: &'static str, text: String| {
        let line = line_of(&source.code, at);
        findings.push(Finding {
            path: source.path.clone(),
            line,
            rule,
            text,
        });
    };
    for (word, why) in REFUSED {
        if is_excepted(&source.path, word) {
            continue;
        }
        for at in positions(&source.code, word) {
            report(at, "word", format!("`{word}`: {why}"));
        }
    }
    if !UNSAFE.iter().any(|(path, _)| source.path.starts_with(path)) {
        for word in ["unsafe", "allow(unsafe_code", "expect(unsafe_code"] {
            for at in positions(&source.code, word) {
                report(
                    at,
                    "unsafe",
                    format!("`{word}`: this module is not listed with a reason"),
                );
            }
        }
    }
    if !source.is_test() && source.crate_name() != "xtask" {
        for at in positions(&source.product, "select!") {
            let body = source.product[at + "select!".len()..].trim_start();
            if !body
                .trim_start_matches(['{', '(', ' ', '\n'])
                .starts_with("biased;")
            {
                report(
                    at,
                    "select",
                    "`select!` without `biased;` polls in random order".into(),
                );
            }
        }
    }
    findings
}

fn is_excepted(file: &str, word: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(path, part, _)| *path == file && word.contains(part))
}

/// Every place where a word stands that is not part of a longer name.
fn positions(code: &str, word: &str) -> Vec<usize> {
    let part = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let bytes = code.as_bytes();
    let ends_as_name = part(word.as_bytes().last());
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| *at == 0 || !part(bytes.get(at - 1)))
        .filter(|at| !ends_as_name || !part(bytes.get(at + word.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        check(&Source::new(path, text))
            .into_iter()
            .map(|finding| finding.rule)
            .collect()
    }

    #[test]
    fn each_word_is_found_in_code_and_in_tests() {
        for (word, _) in REFUSED {
            let text = format!("fn f() {{ {word} }}");
            for path in ["wal/src/a.rs", "tests/src/a.rs", "wal/src/tests.rs"] {
                assert!(rules(path, &text).contains(&"word"), "{word} in {path}");
            }
        }
    }

    #[test]
    fn an_exception_is_for_one_file_and_one_word() {
        let text = "fn f() { unbounded_channel(); todo!() }";
        assert_eq!(rules(EXCEPTIONS[0].0, text), ["word"]);
        assert_eq!(rules("env/src/threads.rs", text), ["word", "word"]);
    }

    #[test]
    fn words_in_strings_and_comments_are_free() {
        assert!(
            rules(
                "wal/src/a.rs",
                "// todo!\nconst A: &str = \"unsafe #[ignore]\";"
            )
            .is_empty()
        );
    }

    #[test]
    fn unsafe_is_found_outside_the_listed_modules() {
        let text = "#![allow(unsafe_code)]\nfn f() { unsafe { g() } }";
        assert_eq!(rules("wal/src/a.rs", text), ["unsafe", "unsafe"]);
        assert!(rules(UNSAFE[0].0, text).is_empty());
        assert!(rules("wal/src/a.rs", "fn f() { is_unsafe_here(); }").is_empty());
    }

    #[test]
    fn a_select_says_biased() {
        let path = "broker/src/a.rs";
        assert_eq!(
            rules(path, "fn f() { tokio::select! { a = b => {} } }"),
            ["select"]
        );
        assert!(
            rules(
                path,
                "fn f() { tokio::select! {\n    biased;\n a = b => {} } }"
            )
            .is_empty()
        );
    }
}
