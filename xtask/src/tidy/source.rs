//! A source file with comments, literals and test code blanked out, line for line.

/// One Rust file as the rules look at it.
pub(crate) struct Source {
    /// Path from the root of the checkout, with `/`.
    pub(crate) path: String,
    /// The file as written.
    pub(crate) text: String,
    /// As long as `text`; comments and the insides of literals are spaces.
    pub(crate) code: String,
    /// `code`, with the items under `#[cfg(test)]` and `#[test]` blanked out too.
    pub(crate) product: String,
}

impl Source {
    /// Blanks what the rules do not look at.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = blank_comments_and_literals(text);
        let product = blank_test_items(&code);
        Self {
            path: path.to_string(),
            text: text.to_string(),
            code,
            product,
        }
    }

    /// The first part of the path: the crate's folder.
    pub(crate) fn crate_name(&self) -> &str {
        self.path.split('/').next().unwrap_or("")
    }

    /// Whether the whole file is test code.
    pub(crate) fn is_test(&self) -> bool {
        let folders_and_file: Vec<&str> = self.path.split('/').collect();
        self.path.ends_with("tests.rs") || folders_and_file.contains(&"tests")
    }

    /// Whether the file says that a program wrote it.
    pub(crate) fn is_generated(&self) -> bool {
        self.header().any(|line| line.contains("@generated"))
    }

    /// The comment lines at the top.
    pub(crate) fn header(&self) -> impl Iterator<Item = &str> {
        self.text
            .lines()
            .take_while(|line| line.starts_with("//") || line.trim().is_empty())
    }
}

/// The line, from 1, of a position.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    text.as_bytes()[..position]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

/// Replaces bytes by spaces, but keeps the lines.
fn blank(bytes: &mut [u8]) {
    for byte in bytes {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn blank_comments_and_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_comment_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' | b'b' | b'c' if at == 0 || !is_word(bytes[at - 1]) => prefixed_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        if end > at {
            blank(&mut out[at..end]);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8(out).expect("whole characters became spaces")
}

fn line_comment_end(bytes: &[u8], start: usize) -> usize {
    bytes[start..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |n| start + n)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `start` is at the opening quote.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Literals with a prefix: r"", r#""#, b"", br"", b'', c"". `start` if it is none.
fn prefixed_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < bytes.len() && at < start + 2 && matches!(bytes[at], b'r' | b'b' | b'c') {
        at += 1;
    }
    let raw = bytes[start..at].contains(&b'r');
    match bytes.get(at) {
        Some(b'"') if !raw => string_end(bytes, at),
        Some(b'"' | b'#') if raw => {
            let hashes = bytes[at..].iter().take_while(|byte| **byte == b'#').count();
            if bytes.get(at + hashes) != Some(&b'"') {
                return start;
            }
            let mut closing = vec![b'"'];
            closing.resize(hashes + 1, b'#');
            let body = at + hashes + 1;
            let end = bytes[body..]
                .windows(closing.len())
                .position(|window| window == closing);
            end.map_or(bytes.len(), |n| body + n + closing.len())
        }
        Some(b'\'') if &bytes[start..at] == b"b" => char_end(bytes, at),
        _ => start,
    }
}

/// `start` is at the quote; a lifetime is no literal and gives `start`.
fn char_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => {
            let body = start + 3;
            let close = bytes
                .get(body..)
                .and_then(|rest| rest.iter().position(|b| *b == b'\''));
            close.map_or(bytes.len(), |n| body + n + 1)
        }
        Some(_) => {
            // One character, of up to four bytes, between quotes.
            let close = (start + 2..bytes.len().min(start + 6)).find(|at| bytes[*at] == b'\'');
            match close {
                Some(at) if at == start + 2 || bytes[start + 1] >= 0x80 => at + 1,
                _ => start,
            }
        }
        None => start,
    }
}

/// Blanks each item that an attribute marks as test code.
fn blank_test_items(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = code[at..].find("#[") {
        let start = at + found;
        let end = close_of(code.as_bytes(), start + 1);
        let inside: String = code[start + 2..end.saturating_sub(1)]
            .split_whitespace()
            .collect::<Vec<_>>()
            .concat();
        if is_test_attribute(&inside) {
            let item_end = item_end(code.as_bytes(), end);
            blank(&mut out[start..item_end]);
            at = item_end;
        } else {
            at = end;
        }
    }
    String::from_utf8(out).expect("whole characters became spaces")
}

fn is_test_attribute(inside: &str) -> bool {
    inside == "test"
        || inside == "cfg(test)"
        || inside.starts_with("cfg(all(test,")
        || inside.starts_with("cfg(any(test,")
        || inside == "tokio::test"
        || inside.starts_with("tokio::test(")
}

/// The end of the bracket, brace or parenthesis that opens at `open`.
pub(crate) fn close_of(bytes: &[u8], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in bytes.iter().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    bytes.len()
}

/// The end of the item that starts at or after `at`: a `;`, or a closed `{}`, outside brackets.
fn item_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'(' | b'[' => at = close_of(bytes, at),
            b'{' => return close_of(bytes, at),
            b';' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("a/src/b.rs", text).code
    }

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(
            code("a /* b /* c */ d */ e"),
            format!("a {} e", " ".repeat(17))
        );
        assert_eq!(code(r#"f("x\"y", 'z')"#), "f(      ,    )");
        assert_eq!(code(r###"r#"a"b"# x"###), "         x");
        assert_eq!(
            code("b'{' b\"{\" '\\'' '\\u{7b}' é"),
            format!("{} é", " ".repeat(23))
        );
    }

    #[test]
    fn lifetimes_and_raw_names_are_code() {
        assert_eq!(code("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
        assert_eq!(code("r#type"), "r#type");
        assert_eq!(code("for b in br {}"), "for b in br {}");
    }

    #[test]
    fn test_items_are_blanked_and_what_follows_stays() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { x() } }\nfn c() {}";
        let product = Source::new("a/src/b.rs", text).product;
        assert!(product.contains("fn a") && product.contains("fn c"));
        assert!(!product.contains("fn b") && !product.contains("mod tests"));
        let text = "#[cfg(test)]\nuse x::{y, z};\nfn c() {}";
        let product = Source::new("a/src/b.rs", text).product;
        assert!(product.contains("fn c") && !product.contains('y'));
    }

    #[test]
    fn test_files_are_known_by_their_path() {
        for (path, test) in [
            ("wal/src/log.rs", false),
            ("wal/src/log/tests.rs", true),
            ("wal/tests/a.rs", true),
            ("tests/sim/main.rs", true),
            ("broker/src/latest.rs", false),
        ] {
            assert_eq!(Source::new(path, "").is_test(), test, "{path}");
        }
    }
}
