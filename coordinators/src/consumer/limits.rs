//! Limits and intervals of consumer groups.

/// How long after patterns were resolved they are resolved again at the earliest.
pub const REGEX_REFRESH_MIN_MS: u64 = 10_000;
/// How large a compiled pattern may get, in bytes.
pub const REGEX_COMPILED_BYTES_MAX: usize = 1 << 20;
/// Names in record keys have an int16 length.
pub const NAME_BYTES_MAX: usize = i16::MAX as usize;
