//! The full paths that a file's code names, through its `use` declarations.

use std::collections::BTreeMap;

use super::source::{close_of, line_of};

/// A path as it is known outside the file, and the line that names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// `std::time::Instant::now`, however it was imported.
    pub(crate) path: String,
    /// From 1.
    pub(crate) line: usize,
}

/// Every imported path and every path in expressions and types, with imports resolved.
pub(crate) fn named(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut imports: BTreeMap<String, String> = BTreeMap::new();
    let mut rest = code.as_bytes().to_vec();
    for (start, end) in use_declarations(code) {
        let mut leaves = Vec::new();
        expand(&code[start + "use".len()..end], "", &mut leaves);
        for (path, name) in leaves {
            found.push(Named {
                path: path.clone(),
                line: line_of(code, start),
            });
            imports.insert(name, path);
        }
        rest[start..end].fill(b' ');
    }
    let rest = String::from_utf8(rest).expect("only ASCII was written over whole declarations");
    for (path, at) in inline_paths(&rest) {
        let (first, tail) = match path.split_once("::") {
            Some((first, tail)) => (first, format!("::{tail}")),
            None => (path.as_str(), String::new()),
        };
        let full = match imports.get(first) {
            Some(import) => format!("{import}{tail}"),
            None if tail.is_empty() => continue,
            None => path.clone(),
        };
        found.push(Named {
            path: full,
            line: line_of(code, at),
        });
    }
    found
}

/// Where each `use …` stands, without its semicolon.
fn use_declarations(code: &str) -> Vec<(usize, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = code[at..].find("use ").map(|n| at + n) {
        at = start + 4;
        let before = code[..start].trim_end();
        // `use` starts an item: after nothing, an item, an attribute or a visibility.
        let starts_item = before.is_empty()
            || before.ends_with([';', '}', '{', ']', ')'])
            || before.ends_with("pub");
        let is_word =
            start > 0 && (bytes[start - 1].is_ascii_alphanumeric() || bytes[start - 1] == b'_');
        if !starts_item || is_word {
            continue;
        }
        if let Some(length) = code[start..].find(';') {
            found.push((start, start + length));
            at = start + length;
        }
    }
    found
}

/// Flattens a use tree into (full path, name in this file).
fn expand(tree: &str, prefix: &str, leaves: &mut Vec<(String, String)>) {
    let tree = tree.trim().trim_start_matches("::");
    if let Some(open) = tree.find('{') {
        let close = close_of(tree.as_bytes(), open);
        let head = tree[..open].trim().trim_end_matches("::").trim();
        let joined = join(prefix, head);
        for part in split_top(&tree[open + 1..close - 1]) {
            expand(part, &joined, leaves);
        }
        return;
    }
    if tree.is_empty() {
        return;
    }
    let (path, alias) = match tree.split_once(" as ") {
        Some((path, alias)) => (path.trim(), Some(alias.trim())),
        None => (tree, None),
    };
    let full = if path == "self" {
        prefix.to_string()
    } else {
        join(prefix, path)
    };
    let last = full.rsplit("::").next().unwrap_or("").to_string();
    leaves.push((full, alias.map_or(last, str::to_string)));
}

fn join(prefix: &str, path: &str) -> String {
    let path: String = path.split_whitespace().collect();
    if prefix.is_empty() {
        path
    } else {
        format!("{prefix}::{path}")
    }
}

/// Splits at the commas that stand outside braces.
fn split_top(list: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0_usize, 0);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&list[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[from..]);
    parts
}

/// Every `a::b::c`, and every lone identifier, with its position.
fn inline_paths(code: &str) -> Vec<(String, usize)> {
    let bytes = code.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if !word(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        // A field or method is not a path of its own.
        let member = start > 0 && bytes[start - 1] == b'.' && !code[..start].ends_with("..");
        loop {
            while at < bytes.len() && word(bytes[at]) {
                at += 1;
            }
            if code[at..].starts_with("::") && bytes.get(at + 2).is_some_and(|b| word(*b)) {
                at += 2;
            } else {
                break;
            }
        }
        if !member {
            found.push((code[start..at].to_string(), start));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(code: &str) -> Vec<String> {
        named(code).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn use_trees_are_flattened() {
        let found = all("use std::{fs, time::{self, Instant as Now}};\npub use a::b;");
        assert_eq!(
            found,
            ["std::fs", "std::time", "std::time::Instant", "a::b"]
        );
    }

    #[test]
    fn imports_are_resolved_in_code() {
        let found = all("use std::time::Instant as Now;\nfn f() { Now::now(); }");
        assert!(
            found.contains(&"std::time::Instant::now".to_string()),
            "{found:?}"
        );
        let found = all("use tokio::time::Instant;\nfn f() { Instant::now(); }");
        assert!(
            found.contains(&"tokio::time::Instant::now".to_string()),
            "{found:?}"
        );
        assert!(
            !found.contains(&"std::time::Instant::now".to_string()),
            "{found:?}"
        );
    }

    #[test]
    fn members_and_unknown_names_are_no_paths() {
        assert!(all("fn f(x: X) { x.use_it(); x.fs() }").is_empty());
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let found = named("\n\nfn f() {\n    std::fs::read(p)\n}");
        assert_eq!(
            found,
            [Named {
                path: "std::fs::read".to_string(),
                line: 4
            }]
        );
    }
}
