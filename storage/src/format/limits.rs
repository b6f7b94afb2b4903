//! Limits of the object format. All are checked on writing and on reading.

/// A block is closed once it holds this many bytes.
pub const BLOCK_TARGET_BYTES: usize = 512 * 1024;
/// A block grows past this only when it holds a single batch.
pub const BLOCK_MAX_BYTES: usize = 1024 * 1024;
/// Largest block that is read: the largest batch that the protocol takes, with room.
pub const BLOCK_READ_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Batches in one slice; a longer run is cut into several slices.
pub const SLICE_MAX_BATCHES: usize = 256 * 1024;
/// Bytes of one slice's part of the index, producer checkpoint included.
pub const SLICE_INDEX_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Slices in one object.
pub const OBJECT_MAX_SLICES: usize = 256 * 1024;
/// Bytes of the directory.
pub const DIRECTORY_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Reads of the same bytes before a mismatch is believed to stand in the store.
pub const DAMAGED_READS: u32 = 3;
