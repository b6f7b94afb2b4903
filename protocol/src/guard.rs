//! The frame guard: walks a frame by the field tables before any decoder sees it.
//!
//! ```text
//! tables.txt ─▶ program per (API, version, side) ─▶ walk: lengths, nulls, tags, count, end
//! ```
//!
//! It decodes nothing and allocates nothing. What passes has only lengths that its own bytes
//! back, no string above 32767 bytes, no more elements than the budget, and known tagged fields
//! that fill their size exactly; a response has no byte left over, a request may.

mod program;
pub(crate) mod table;

use std::sync::OnceLock;

use crate::api::{self, ApiEntry};
use crate::codec::wire::read_varint;
use crate::error::{Error, Result};
use program::{Counts, Length, Op, Program};

/// The field tables, as the generator wrote them.
pub(crate) const TABLES: &str = include_str!("guard/tables.txt");

/// Longest string, in bytes.
const MAX_STRING: usize = i16::MAX as usize;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From a client.
    Request,
    /// To a client.
    Response,
}

/// Checks the message of `entry` and `version` that fills `frame` from byte `at` on. Gives where it
/// ends, which is the frame's end for a response.
///
/// # Errors
/// On the first thing wrong.
///
/// # Panics
/// If `entry` does not serve `version`.
pub fn check(
    side: Side,
    entry: &ApiEntry,
    version: i16,
    frame: &[u8],
    at: usize,
    max_elements: usize,
) -> Result<usize> {
    let program = program(side, entry, version);
    let walked = walk(program, frame, at, max_elements, &mut ());
    match walked? {
        (_, end) if end == frame.len() || side == Side::Request => Ok(end),
        (_, end) => Err(Error::TrailingBytes {
            at: end,
            extra: frame.len() - end,
        }),
    }
}

/// Told of every length field that is passed; tests use it to find what to damage.
pub(crate) trait Observer {
    fn length(&mut self, at: usize, length: &Length);
}

impl Observer for () {
    fn length(&mut self, _at: usize, _length: &Length) {}
}

/// The program of one version of one message.
pub(crate) fn program(side: Side, entry: &ApiEntry, version: i16) -> &'static Program {
    static PROGRAMS: OnceLock<Vec<[Vec<Program>; 2]>> = OnceLock::new();
    let programs = PROGRAMS.get_or_init(|| {
        let tables = table::parse(TABLES);
        let compile = |entry: &ApiEntry, side| {
            let message = table::find(&tables, side, entry.key.code());
            entry
                .versions()
                .map(|version| message.compile(version))
                .collect()
        };
        let sides = [Side::Request, Side::Response];
        api::all()
            .iter()
            .map(|entry| sides.map(|side| compile(entry, side)))
            .collect()
    });
    let row = api::all()
        .binary_search_by_key(&entry.key, |row| row.key)
        .expect("an entry is a row of the table");
    &programs[row][side as usize][(version - entry.min_version) as usize]
}

/// Walks one message, telling `observer` of every length; gives the number of elements and where
/// the message ends.
pub(crate) fn walk<O: Observer>(
    program: &Program,
    frame: &[u8],
    at: usize,
    max_elements: usize,
    observer: &mut O,
) -> Result<(usize, usize)> {
    let mut walker = Walker {
        frame,
        at,
        elements: 0,
        max_elements,
        observer,
    };
    walker.run(program)?;
    Ok((walker.elements, walker.at))
}

struct Walker<'a, O> {
    frame: &'a [u8],
    at: usize,
    elements: usize,
    max_elements: usize,
    observer: &'a mut O,
}

impl<O: Observer> Walker<'_, O> {
    fn run(&mut self, program: &Program) -> Result<()> {
        for op in &program.ops {
            match op {
                Op::Skip(bytes) => self.skip(*bytes, "the message ends inside a field")?,
                Op::Blob(length) => {
                    if let Some(len) = self.length(length)? {
                        self.skip(len, "a length beyond the end of the message")?;
                    }
                }
                Op::Array { length, element } => self.array(length, element)?,
                Op::Optional(fields) => self.optional(fields)?,
                Op::Tagged(known) => self.tagged(known)?,
            }
        }
        Ok(())
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { what, at: self.at }
    }

    fn remaining(&self) -> usize {
        self.frame.len() - self.at
    }

    fn skip(&mut self, bytes: usize, what: &'static str) -> Result<()> {
        if bytes > self.remaining() {
            return Err(self.malformed(what));
        }
        self.at += bytes;
        Ok(())
    }

    fn varint(&mut self) -> Result<u32> {
        let (value, len) = read_varint(&self.frame[self.at..])
            .ok_or_else(|| self.malformed("a varint that does not end"))?;
        self.at += len;
        Ok(value)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.frame[self.at..].first_chunk().copied();
        let bytes = bytes.ok_or_else(|| self.malformed("the message ends inside a length"))?;
        self.at += N;
        Ok(bytes)
    }

    /// A length; `None` is null.
    fn length(&mut self, length: &Length) -> Result<Option<usize>> {
        let start = self.at;
        self.observer.length(start, length);
        let declared = match length.width {
            program::Width::Varint => i64::from(self.varint()?) - 1,
            program::Width::Two => i64::from(i16::from_be_bytes(self.fixed()?)),
            program::Width::Four => i64::from(i32::from_be_bytes(self.fixed()?)),
        };
        let what = match usize::try_from(declared) {
            // A string's length is an int16 whatever it is written as; clients refuse longer ones.
            Ok(len) if length.counts == Counts::Text && len > MAX_STRING => "a string too long",
            Ok(len) => return Ok(Some(len)),
            Err(_) if declared == -1 && length.nullable => return Ok(None),
            Err(_) if declared == -1 => "null where it is not allowed",
            Err(_) => "a negative length",
        };
        Err(Error::Malformed { what, at: start })
    }

    fn count(&mut self, elements: usize) -> Result<()> {
        self.elements = self.elements.saturating_add(elements);
        if self.elements > self.max_elements {
            return Err(Error::TooManyElements {
                limit: self.max_elements,
                at: self.at,
            });
        }
        Ok(())
    }

    fn array(&mut self, length: &Length, element: &Program) -> Result<()> {
        let Some(len) = self.length(length)? else {
            return Ok(());
        };
        let least = len.saturating_mul(element.min_bytes);
        if least > self.remaining() {
            return Err(self.malformed("an array longer than the message"));
        }
        if let [Op::Skip(_)] = element.ops[..] {
            // Of one size each; decoded they take what they take here, unless they are structs.
            self.count(if element.is_struct { len } else { 0 })?;
            return self.skip(least, "an array longer than the message");
        }
        self.count(len)?;
        for _ in 0..len {
            self.run(element)?;
        }
        Ok(())
    }

    fn optional(&mut self, fields: &Program) -> Result<()> {
        match i8::from_be_bytes(self.fixed()?) {
            1 => self.run(fields),
            -1 => Ok(()),
            _ => Err(self.malformed("a struct neither present nor null")),
        }
    }

    fn tagged(&mut self, known: &[(u32, Program)]) -> Result<()> {
        self.observer.length(self.at, &program::TAG_COUNT);
        let fields = self.varint()? as usize;
        if fields > self.remaining() / 2 {
            return Err(self.malformed("more tagged fields than the message can hold"));
        }
        self.count(fields)?;
        for _ in 0..fields {
            let tag = self.varint()?;
            if i32::try_from(tag).is_err() {
                // The library keeps tags as signed numbers and would lose count.
                return Err(self.malformed("a tag beyond 31 bits"));
            }
            self.observer.length(self.at, &program::TAG_SIZE);
            let size = self.varint()? as usize;
            if size > self.remaining() {
                return Err(self.malformed("a tagged field longer than the message"));
            }
            let end = self.at + size;
            match known.iter().find(|(known, _)| *known == tag) {
                None => self.at = end,
                Some((_, value)) => {
                    // What lies inside must not reach beyond its size.
                    let whole = std::mem::take(&mut self.frame);
                    self.frame = &whole[..end];
                    self.run(value)?;
                    self.frame = whole;
                    if self.at != end {
                        return Err(self.malformed("a tagged field that does not fill its size"));
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
