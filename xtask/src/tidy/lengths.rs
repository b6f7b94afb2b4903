//! Lengths of files and functions, and the baseline that may only shrink.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, bail};

use super::source::{Source, close_of, line_of};
use super::{BASELINE, Finding};

/// Lines of a file, tests not counted.
const FILE_LINES: usize = 600;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;
/// What the header of a longer file says.
const REASON: &str = "tidy: long because ";

/// A length above its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excess {
    path: String,
    /// `None` for the file itself.
    function: Option<String>,
    line: usize,
    lines: usize,
}

impl Excess {
    fn key(&self) -> String {
        match &self.function {
            Some(name) => format!("function {} {name}", self.path),
            None => format!("file {}", self.path),
        }
    }
}

/// What is too long in a file.
pub(crate) fn measure(source: &Source) -> Vec<Excess> {
    let mut found = Vec::new();
    if source.is_generated() {
        return found;
    }
    let long_for_a_reason = source.header().any(|line| line.contains(REASON));
    let product = product_lines(source);
    if product > FILE_LINES && !long_for_a_reason && !is_unit_tests(source) {
        let path = source.path.clone();
        found.push(Excess {
            path,
            function: None,
            line: 0,
            lines: product,
        });
    }
    for (name, start, end) in functions(&source.product) {
        let line = line_of(&source.product, start);
        let lines = line_of(&source.product, end - 1) - line + 1;
        if lines > FUNCTION_LINES && !is_unit_tests(source) {
            let path = source.path.clone();
            found.push(Excess {
                path,
                function: Some(name),
                line,
                lines,
            });
        }
    }
    found
}

/// Files of tests beside the code, and test targets, are as long as they must be. The library of
/// the crate `tests` and its simulation are programs, and are measured.
fn is_unit_tests(source: &Source) -> bool {
    let program = source.path.starts_with("tests/src/") || source.path.starts_with("tests/sim/");
    source.is_test() && (!program || source.path.ends_with("tests.rs"))
}

/// Lines that are not under `#[cfg(test)]`; comments and blank lines count.
fn product_lines(source: &Source) -> usize {
    let lines = source.text.lines().count();
    let test_lines = source
        .code
        .lines()
        .zip(source.product.lines())
        .filter(|(code, product)| !code.trim().is_empty() && product.trim().is_empty())
        .count();
    lines - test_lines
}

/// Name, start and end of each function with a body.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let bytes = code.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if start > 0 && word(bytes[start - 1]) {
            continue;
        }
        let name: String = code[start + 3..]
            .trim_start()
            .chars()
            .take_while(|c| *c == '_' || c.is_alphanumeric())
            .collect();
        if name.is_empty() {
            continue;
        }
        let mut at = start;
        while at < bytes.len() {
            match bytes[at] {
                b'(' | b'[' => at = close_of(bytes, at),
                b'{' => {
                    found.push((name, start, close_of(bytes, at)));
                    break;
                }
                b';' => break,
                _ => at += 1,
            }
        }
    }
    found
}

/// The committed lengths above the limits.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    lengths: BTreeMap<String, usize>,
}

impl Baseline {
    /// Reads lines of `file PATH LINES` and `function PATH NAME LINES`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut lengths = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        {
            let (key, lines) = line
                .rsplit_once(' ')
                .with_context(|| format!("{BASELINE}: no length: {line}"))?;
            let lines = lines
                .parse()
                .with_context(|| format!("{BASELINE}: {line}"))?;
            if lengths.insert(key.to_string(), lines).is_some() {
                bail!("{BASELINE}: twice: {key}");
            }
        }
        Ok(Self { lengths })
    }

    /// What grew, what is new, and what the baseline still allows without need.
    pub(crate) fn compare(&self, excesses: &[Excess]) -> Vec<Finding> {
        let longest = longest(excesses);
        let mut findings = Vec::new();
        for (key, excess) in &longest {
            let allowed = self.lengths.get(key).copied();
            let limit = if excess.function.is_some() {
                FUNCTION_LINES
            } else {
                FILE_LINES
            };
            let what = match &excess.function {
                Some(name) => format!("`{name}` has {} lines", excess.lines),
                None => format!("{} non-test lines, and no `{REASON}…` on top", excess.lines),
            };
            let text = match allowed {
                Some(allowed) if excess.lines <= allowed => continue,
                Some(allowed) => format!("{what}; the baseline of {allowed} may only shrink"),
                None => format!("{what}; at most {limit}"),
            };
            findings.push(Finding {
                path: excess.path.clone(),
                line: excess.line,
                rule: "length",
                text,
            });
        }
        for (key, allowed) in &self.lengths {
            let now = longest.get(key).map_or(0, |excess| excess.lines);
            if now < *allowed {
                let text = format!("`{key}` shrank below {allowed}: `cargo xtask tidy --shrink`");
                let path = BASELINE.to_string();
                findings.push(Finding {
                    path,
                    line: 0,
                    rule: "ratchet",
                    text,
                });
            }
        }
        findings
    }

    /// The baseline with every entry lowered to what is needed now; none is added.
    pub(crate) fn shrunk(&self, excesses: &[Excess]) -> Self {
        let longest = longest(excesses);
        let lengths = self
            .lengths
            .iter()
            .filter_map(|(key, allowed)| {
                longest
                    .get(key)
                    .map(|excess| (key.clone(), excess.lines.min(*allowed)))
            })
            .collect();
        Self { lengths }
    }
}

/// By key; of functions with one name in a file, the longest counts.
fn longest(excesses: &[Excess]) -> BTreeMap<String, &Excess> {
    let mut longest: BTreeMap<String, &Excess> = BTreeMap::new();
    for excess in excesses {
        let entry = longest.entry(excess.key()).or_insert(excess);
        if excess.lines > entry.lines {
            *entry = excess;
        }
    }
    longest
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Lengths above the limits of `cargo xtask tidy`. Entries may only shrink."
        )?;
        for (key, lines) in &self.lengths {
            writeln!(f, "{key} {lines}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    fn texts(baseline: &str, source: &str) -> Vec<String> {
        let source = Source::new("wal/src/a.rs", source);
        let findings = Baseline::parse(baseline)
            .unwrap()
            .compare(&measure(&source));
        findings.into_iter().map(|finding| finding.text).collect()
    }

    #[test]
    fn a_function_may_have_seventy_lines() {
        assert!(texts("", &function(FUNCTION_LINES)).is_empty());
        assert_eq!(
            texts("", &function(71)),
            ["`long` has 71 lines; at most 70"]
        );
    }

    #[test]
    fn a_file_may_have_six_hundred_lines_besides_its_tests() {
        let tests = format!(
            "#[cfg(test)]\nmod tests {{\n{}}}\n",
            "    fn f() {}\n".repeat(300)
        );
        let fits = "const A: u8 = 1;\n".repeat(FILE_LINES);
        assert!(texts("", &format!("{fits}{tests}")).is_empty());
        assert_eq!(
            texts("", &format!("{fits}const B: u8 = 1;\n{tests}")).len(),
            1
        );
    }

    #[test]
    fn a_reason_or_a_generator_lifts_the_limit() {
        let long = "const A: u8 = 1;\n".repeat(FILE_LINES + 1);
        assert_eq!(texts("", &long).len(), 1);
        assert!(
            texts(
                "",
                &format!("//! Table.\n//! tidy: long because one table.\n{long}")
            )
            .is_empty()
        );
        assert!(texts("", &format!("// @generated by a program\n{long}")).is_empty());
    }

    #[test]
    fn the_baseline_allows_its_length_and_no_line_more() {
        let baseline = "# comment\nfunction wal/src/a.rs long 80\n";
        assert!(texts(baseline, &function(80)).is_empty());
        assert_eq!(
            texts(baseline, &function(81)),
            ["`long` has 81 lines; the baseline of 80 may only shrink"]
        );
        assert_eq!(texts(baseline, &function(75)).len(), 1);
        assert_eq!(texts(baseline, "").len(), 1);
    }

    #[test]
    fn shrinking_lowers_and_never_adds() {
        let source = Source::new(
            "wal/src/a.rs",
            &format!("{}fn b() {{\n{}}}", function(75), "\n".repeat(90)),
        );
        let baseline =
            Baseline::parse("function wal/src/a.rs long 80\nfile gone.rs 700\n").unwrap();
        let shrunk = baseline.shrunk(&measure(&source)).to_string();
        assert!(
            shrunk.ends_with("\nfunction wal/src/a.rs long 75\n"),
            "{shrunk}"
        );
        assert!(
            !shrunk.contains("gone.rs") && !shrunk.contains(" b "),
            "{shrunk}"
        );
    }

    #[test]
    fn signatures_without_a_body_have_no_length() {
        assert!(functions("trait A { fn a(&self, b: [u8; 3]) -> u8; }").is_empty());
        assert_eq!(functions("fn a<T>(t: T) where T: B { c() }").len(), 1);
    }
}
