//! Every limit of this crate. Sizes are in bytes unless the name says otherwise.

/// Largest request frame taken: Kafka's default of `socket.request.max.bytes`.
pub const MAX_REQUEST_FRAME_BYTES: usize = 100 * 1024 * 1024;

/// Largest response frame that our own client takes.
pub const MAX_RESPONSE_FRAME_BYTES: usize = 256 * 1024 * 1024;

/// API key, version and correlation id: no request is shorter.
pub const MIN_REQUEST_FRAME_BYTES: usize = 8;

/// A correlation id: no response is shorter.
pub const MIN_RESPONSE_FRAME_BYTES: usize = 4;

/// How deep messages may nest. Kafka's deepest served message has five levels.
pub const MAX_NESTING_DEPTH: usize = 12;

/// Array elements and tagged fields of all levels that any request may hold, however short.
pub const MIN_REQUEST_ELEMENTS: usize = 20_000;

/// Beyond those, a request may hold one more for so many bytes: what real ones take each.
pub const BYTES_PER_ELEMENT: usize = 16;

/// And never more than this.
pub const MAX_REQUEST_ELEMENTS: usize = 500_000;

/// What a decoded element takes at most in memory, beyond the bytes that were sent. Decoding thus
/// takes at most 10 bytes for each one sent, and 3.2 MB.
pub const MAX_ELEMENT_BYTES: usize = 160;

/// Elements that a request of so many bytes may hold.
pub const fn request_elements(frame_bytes: usize) -> usize {
    let elements = MIN_REQUEST_ELEMENTS + frame_bytes / BYTES_PER_ELEMENT;
    if elements < MAX_REQUEST_ELEMENTS {
        elements
    } else {
        MAX_REQUEST_ELEMENTS
    }
}

/// Elements, as above, of responses that our own client reads.
pub const MAX_RESPONSE_ELEMENTS: usize = 5_000_000;

/// Response payloads below this are copied into the frame: a segment of its own costs more.
pub const MIN_REFERENCED_BYTES: usize = 1024;

/// Default cap of what a batch may decompress to, where the caller has no better one.
pub const MAX_DECOMPRESSED_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of a compressed batch that are held decompressed while its records are visited.
pub const WALK_WINDOW_BYTES: usize = 32 * 1024;

/// Most headers one record may carry.
pub const MAX_RECORD_HEADERS: usize = 100_000;

/// Longest client id that is kept; Kafka's strings end at this length.
pub const MAX_CLIENT_ID_BYTES: usize = 32_767;
