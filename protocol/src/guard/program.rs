//! What the guard runs: the fields of one version of one message, flattened.

/// How a length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// `int16`.
    Two,
    /// `int32`.
    Four,
    /// Unsigned varint of the length plus one; 0 is null.
    Varint,
}

/// What a length counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// Bytes of a string: at most 32767, however wide the field.
    Text,
    /// Bytes of bytes, of records, or of a tagged field.
    Bytes,
    /// Elements of an array, or tagged fields.
    Elements,
}

/// A length field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) width: Width,
    pub(crate) nullable: bool,
    pub(crate) counts: Counts,
}

/// The number of tagged fields: a plain varint, told to observers only.
pub(super) const TAG_COUNT: Length = Length {
    width: Width::Varint,
    nullable: false,
    counts: Counts::Elements,
};

/// The size of a tagged field: a plain varint, told to observers only.
pub(super) const TAG_SIZE: Length = Length {
    width: Width::Varint,
    nullable: false,
    counts: Counts::Bytes,
};

/// One step of a walk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op {
    /// So many bytes of fields of fixed size.
    Skip(usize),
    /// A string, bytes or records.
    Blob(Length),
    /// An array.
    Array {
        /// Its length field.
        length: Length,
        /// What each element is.
        element: Program,
    },
    /// A struct that may be null, behind a byte that says so.
    Optional(Program),
    /// The tagged fields of a struct, with those that are known, by tag.
    Tagged(Vec<(u32, Program)>),
}

/// The fields of a struct, or the one field of an element that is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Program {
    pub(crate) ops: Vec<Op>,
    /// The fewest bytes it takes.
    pub(crate) min_bytes: usize,
    pub(crate) is_struct: bool,
}

impl Program {
    /// Adds a step; bytes to skip are joined.
    pub(super) fn push(&mut self, op: Op) {
        self.min_bytes += op.min_bytes();
        match (self.ops.last_mut(), op) {
            (Some(Op::Skip(before)), Op::Skip(bytes)) => *before += bytes,
            (_, op) => self.ops.push(op),
        }
    }

    /// Adds the fields of a struct that is always there.
    pub(super) fn append(&mut self, other: Program) {
        for op in other.ops {
            self.push(op);
        }
    }

    /// How deep structs and arrays nest in it.
    pub(super) fn depth(&self) -> usize {
        let inner = self.ops.iter().map(|op| match op {
            Op::Skip(_) | Op::Blob(_) => 0,
            Op::Array { element, .. } | Op::Optional(element) => element.depth(),
            Op::Tagged(known) => known.iter().map(|(_, p)| p.depth()).max().unwrap_or(0),
        });
        1 + inner.max().unwrap_or(0)
    }
}

impl Op {
    fn min_bytes(&self) -> usize {
        match self {
            Self::Skip(bytes) => *bytes,
            Self::Blob(length) | Self::Array { length, .. } => match length.width {
                Width::Two => 2,
                Width::Four => 4,
                Width::Varint => 1,
            },
            Self::Optional(_) | Self::Tagged(_) => 1,
        }
    }
}
