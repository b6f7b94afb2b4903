//! Frames of every API and version: the first byte says which way, and for responses the next
//! four of which request; the rest is the frame. What decodes must encode, and then be the same.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::{ApiKey, decode_request, decode_response, encode_request, encode_response};

fuzz_target!(|input: &[u8]| {
    match input {
        [0, frame @ ..] => request(Bytes::copy_from_slice(frame)),
        [_, k0, k1, v0, v1, frame @ ..] => {
            if let Some(key) = ApiKey::from_code(i16::from_be_bytes([*k0, *k1])) {
                let version = i16::from_be_bytes([*v0, *v1]);
                response(key, version, Bytes::copy_from_slice(frame));
            }
        }
        _ => {}
    }
});

fn request(frame: Bytes) {
    let Ok((header, request)) = decode_request(frame) else { return };
    let (version, id) = (header.version, header.correlation_id);
    let Ok(encoded) = encode_request(version, id, header.client_id.as_deref(), &request) else {
        return;
    };
    let (again, same) = decode_request(encoded.to_frame()).expect("what was encoded decodes");
    assert_eq!((again, format!("{same:?}")), (header, format!("{request:?}")));
}

fn response(key: ApiKey, version: i16, frame: Bytes) {
    let Ok((id, response)) = decode_response(key, version, frame) else { return };
    let Ok(encoded) = encode_response(key, version, id, &response) else { return };
    let (again, same) =
        decode_response(key, version, encoded.to_frame()).expect("what was encoded decodes");
    assert_eq!((again, format!("{same:?}")), (id, format!("{response:?}")));
}
