//! Frames made up from the field tables: every field of every version set to something, the same
//! for the same seed. Tests, the fuzz target's corpus and the cross-check feed on them.

use std::sync::OnceLock;

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::ApiEntry;
use crate::codec::segments::Writer;
pub use crate::guard::Side;
use crate::guard::TABLES;
use crate::guard::table::{self, Field, Kind, Message};

/// How a frame is made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Every field set, every array with elements.
    Full,
    /// Arrays may be empty and whatever may be null may be null.
    Sparse,
}

/// A small generator of numbers, the same for the same seed (xorshift64*).
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Numbers from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next one.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// One below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }
}

/// A frame, without length prefix, of one version of one message, its header included.
pub fn frame(side: Side, entry: &ApiEntry, version: i16, flavour: Flavour, seed: u64) -> Bytes {
    static MESSAGES: OnceLock<Vec<Message>> = OnceLock::new();
    let messages = MESSAGES.get_or_init(|| table::parse(TABLES));
    let message = table::find(messages, side, entry.key.code());
    let mut numbers = Numbers::new(seed);
    let mut header = BytesMut::new();
    let header_version = match side {
        Side::Request => {
            header.put_i16(entry.key.code());
            header.put_i16(version);
            header.put_i32(numbers.draw() as i32);
            header.put_i16(5);
            header.put_slice(b"synth");
            entry.request_header_version(version) - 1
        }
        Side::Response => {
            header.put_i32(numbers.draw() as i32);
            entry.response_header_version(version)
        }
    };
    if header_version >= 1 {
        header.put_u8(0);
    }
    let mut synth = Synth {
        version,
        flexible: version >= message.flexible_from,
        flavour,
        numbers,
    };
    let mut writer = Writer::default();
    synth.message(&mut writer, message);
    header.extend_from_slice(writer.buffer());
    header.freeze()
}

struct Synth {
    version: i16,
    flexible: bool,
    flavour: Flavour,
    numbers: Numbers,
}

impl Synth {
    fn message(&mut self, writer: &mut Writer, message: &Message) {
        self.fields(writer, &message.fields);
    }

    fn fields(&mut self, writer: &mut Writer, fields: &[Field]) {
        let mut tagged = Vec::new();
        let version = self.version;
        for field in fields
            .iter()
            .filter(|field| field.versions.contains(&version))
        {
            match &field.tag {
                Some((tag, versions)) if versions.contains(&self.version) => {
                    // Set and not the default, or an encoder would leave it out.
                    let mut value = Writer::default();
                    let flavour = std::mem::replace(&mut self.flavour, Flavour::Full);
                    self.field(&mut value, field);
                    self.flavour = flavour;
                    tagged.push((*tag, value));
                }
                _ => self.field(writer, field),
            }
        }
        if self.flexible {
            tagged.sort_by_key(|(tag, _)| *tag);
            writer.varint(tagged.len() as u32);
            for (tag, mut value) in tagged {
                writer.varint(tag);
                writer.varint(value.buffer().len() as u32);
                let bytes = value.buffer().split();
                writer.buffer().put_slice(&bytes);
            }
        }
    }

    fn field(&mut self, writer: &mut Writer, field: &Field) {
        let nullable = field
            .nullable
            .as_ref()
            .is_some_and(|range| range.contains(&self.version));
        let sparse = self.flavour == Flavour::Sparse;
        let null = nullable && sparse && self.numbers.below(2) == 0;
        if !field.is_array {
            return self.element(writer, field, nullable, null);
        }
        let len = match (null, sparse) {
            (true, _) => None,
            (false, true) => Some(self.numbers.below(3)),
            (false, false) => Some(1 + self.numbers.below(3)),
        };
        writer.array_len(len, self.flexible).expect("a short array");
        for _ in 0..len.unwrap_or(0) {
            self.element(writer, field, false, false);
        }
    }

    fn element(&mut self, writer: &mut Writer, field: &Field, nullable: bool, null: bool) {
        match field.kind {
            Kind::Bool => writer.bool(true),
            Kind::Fixed(bytes) => {
                for _ in 0..bytes {
                    writer.buffer().put_u8(1 + self.numbers.below(254) as u8);
                }
            }
            Kind::String => {
                let len = 1 + self.numbers.below(12);
                let text: String = (0..len)
                    .map(|_| char::from(b'a' + self.numbers.below(26) as u8))
                    .collect();
                let value = (!null).then_some(text.as_str());
                writer
                    .nullable_string(value, self.flexible)
                    .expect("a short string");
            }
            Kind::Bytes => {
                let len = 1 + self.numbers.below(200);
                let bytes: Bytes = (0..len).map(|_| self.numbers.draw() as u8).collect();
                let value = (!null).then_some(std::slice::from_ref(&bytes));
                writer
                    .nullable_bytes(value, self.flexible)
                    .expect("short bytes");
            }
            Kind::Struct => {
                if nullable {
                    writer.present(!null);
                }
                if !null {
                    self.fields(writer, &field.fields);
                }
            }
        }
    }
}
