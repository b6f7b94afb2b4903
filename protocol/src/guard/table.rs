//! Reads the field tables and makes programs of them. The tables are part of the program: what
//! is wrong in them stops the first use, and so every test.

use std::ops::RangeInclusive;

use super::Side;
use super::program::{Counts, Length, Op, Program, Width};
use crate::limits::MAX_NESTING_DEPTH;

type Versions = RangeInclusive<i16>;

/// A request or response, in all of its versions.
#[derive(Debug)]
pub(crate) struct Message {
    side: Side,
    key: i16,
    versions: Versions,
    pub(crate) flexible_from: i16,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    pub(crate) is_array: bool,
    pub(crate) versions: Versions,
    pub(crate) nullable: Option<Versions>,
    pub(crate) tag: Option<(u32, Versions)>,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Bool,
    Fixed(usize),
    String,
    Bytes,
    Struct,
}

/// Reads the tables.
///
/// # Panics
/// If they are not of the form their own header describes.
pub(crate) fn parse(text: &str) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let depth = line.len() - line.trim_start().len();
        if depth == 0 {
            messages.push(parse_message(line));
            continue;
        }
        let message = messages.last_mut().expect("a message comes before fields");
        let mut fields = &mut message.fields;
        for _ in 1..depth {
            fields = &mut fields
                .last_mut()
                .expect("a field comes before its children")
                .fields;
        }
        fields.push(parse_field(line));
    }
    messages
}

fn parse_message(line: &str) -> Message {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [side, key, _name, versions, flexible] = words[..] else {
        panic!("not a message: {line}");
    };
    Message {
        side: match side {
            "request" => Side::Request,
            "response" => Side::Response,
            _ => panic!("not a side: {line}"),
        },
        key: key.parse().expect("a key is a number"),
        versions: parse_versions(versions),
        flexible_from: flexible.parse().expect("a version is a number"),
        fields: Vec::new(),
    }
}

fn parse_field(line: &str) -> Field {
    let mut words = line.split_whitespace().skip(1);
    let mut next = || words.next();
    let kind = next().expect("a field has a type");
    let mut field = Field {
        kind: parse_kind(kind.trim_start_matches("[]")),
        is_array: kind.starts_with("[]"),
        versions: parse_versions(next().expect("a field has versions")),
        nullable: None,
        tag: None,
        fields: Vec::new(),
    };
    while let Some(word) = next() {
        match word {
            "null" => field.nullable = Some(parse_versions(next().expect("versions of null"))),
            "tag" => {
                let tag = next().expect("a tag").parse().expect("a tag is a number");
                field.tag = Some((tag, parse_versions(next().expect("versions of a tag"))));
            }
            _ => panic!("unknown word {word}: {line}"),
        }
    }
    field
}

fn parse_kind(word: &str) -> Kind {
    match word {
        "bool" => Kind::Bool,
        "int8" => Kind::Fixed(1),
        "int16" | "uint16" => Kind::Fixed(2),
        "int32" | "uint32" => Kind::Fixed(4),
        "int64" | "float64" => Kind::Fixed(8),
        "uuid" => Kind::Fixed(16),
        "string" => Kind::String,
        "bytes" | "records" => Kind::Bytes,
        "{}" => Kind::Struct,
        _ => panic!("unknown type {word}"),
    }
}

fn parse_versions(word: &str) -> Versions {
    let (low, high) = word.split_once('-').expect("versions are LOW-HIGH");
    let number = |text: &str| text.parse().expect("a version is a number");
    number(low)..=number(high)
}

/// The message of `side` and `key`.
///
/// # Panics
/// If the tables lack it.
pub(crate) fn find(messages: &[Message], side: Side, key: i16) -> &Message {
    let found = messages
        .iter()
        .find(|message| message.side == side && message.key == key);
    found.unwrap_or_else(|| panic!("the tables lack the {side:?} of API key {key}"))
}

impl Message {
    /// The program of `version`.
    ///
    /// # Panics
    /// If the tables lack the version.
    pub(super) fn compile(&self, version: i16) -> Program {
        assert!(
            self.versions.contains(&version),
            "the tables lack version {version} of API key {}",
            self.key
        );
        let program = compile_struct(&self.fields, version, version >= self.flexible_from);
        assert!(
            program.depth() <= MAX_NESTING_DEPTH,
            "API key {} nests too deep",
            self.key
        );
        program
    }
}

fn compile_struct(fields: &[Field], version: i16, flexible: bool) -> Program {
    let mut program = Program {
        is_struct: true,
        ..Program::default()
    };
    let mut tagged = Vec::new();
    for field in fields
        .iter()
        .filter(|field| field.versions.contains(&version))
    {
        match &field.tag {
            Some((tag, versions)) if versions.contains(&version) => {
                tagged.push((*tag, field.compile(version, flexible)));
            }
            _ => program.append(field.compile(version, flexible)),
        }
    }
    if flexible {
        program.push(Op::Tagged(tagged));
    }
    program
}

impl Field {
    fn compile(&self, version: i16, flexible: bool) -> Program {
        let nullable = self
            .nullable
            .as_ref()
            .is_some_and(|range| range.contains(&version));
        let mut program = Program::default();
        if self.is_array {
            let length = self.length(nullable, flexible, Counts::Elements);
            let element = self.element(version, flexible, false);
            program.push(Op::Array { length, element });
        } else {
            program.append(self.element(version, flexible, nullable));
        }
        program
    }

    fn element(&self, version: i16, flexible: bool, nullable: bool) -> Program {
        let mut program = Program::default();
        match self.kind {
            Kind::Bool => program.push(Op::Skip(1)),
            Kind::Fixed(bytes) => program.push(Op::Skip(bytes)),
            Kind::String => {
                program.push(Op::Blob(self.length(nullable, flexible, Counts::Text)));
            }
            Kind::Bytes => {
                program.push(Op::Blob(self.length(nullable, flexible, Counts::Bytes)));
            }
            Kind::Struct if nullable => {
                let fields = compile_struct(&self.fields, version, flexible);
                program.push(Op::Optional(fields));
            }
            Kind::Struct => return compile_struct(&self.fields, version, flexible),
        }
        program
    }

    fn length(&self, nullable: bool, flexible: bool, counts: Counts) -> Length {
        let width = match (flexible, self.kind, counts) {
            (true, ..) => Width::Varint,
            (false, _, Counts::Text) => Width::Two,
            (false, ..) => Width::Four,
        };
        Length {
            width,
            nullable,
            counts,
        }
    }
}
