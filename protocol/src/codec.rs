//! Requests and responses to and from frames.
//!
//! ```text
//! frame ─▶ header ─▶ guard ─▶ message        message ─▶ segments, records by reference
//! ```
//!
//! **Invariant:** the library's decoder sees no byte that the guard has not passed: it reserves
//! memory for array lengths it has not checked.

pub(crate) mod segments;
pub(crate) mod wire;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::api::{self, ApiKey, with_api_table};
use crate::error::{Error, Result, Source};
use crate::error_code::ErrorCode;
use crate::frame::{RequestHeader, RequestPeek};
use crate::guard::{self, Side};
use crate::limits::{MAX_RESPONSE_ELEMENTS, MIN_REQUEST_FRAME_BYTES, request_elements};
use crate::messages::*;

pub use segments::EncodedFrame;
use segments::Writer;
use wire::Reader;

/// The setters of a message of ours, in the shape of the library's.
macro_rules! setters {
    ($($setter:ident $field:ident: $type:ty;)*) => {$(
        #[doc = concat!("Sets `", stringify!($field), "`.")]
        pub fn $setter(mut self, value: $type) -> Self {
            self.$field = value;
            self
        }
    )*};
}
pub(crate) use setters;

/// One version of one message, read from and written to the wire.
pub(crate) trait Wire: Sized {
    fn read(body: Bytes, version: i16) -> Result<Self, Source>;
    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source>;
}

impl<T: Decodable + Encodable> Wire for T {
    fn read(mut body: Bytes, version: i16) -> Result<Self, Source> {
        Ok(T::decode(&mut body, version)?)
    }

    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        Ok(self.encode(writer.buffer(), version)?)
    }
}

macro_rules! define_messages {
    ($($name:ident($request:ident, $response:ident) = $key:literal, $min:literal ..= $max:literal,
       from $flexible:literal, advertised $advertised:literal,
       codecs $request_codec:ident $(($request_last:literal))?
       $response_codec:ident $(($response_last:literal))?;)*) => {
        /// A request of any API served.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Request {
            $(#[doc = concat!("Request of API key ", stringify!($key), ".")] $name($request),)*
        }

        /// A response of any API served.
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Response {
            $(#[doc = concat!("Response of API key ", stringify!($key), ".")] $name($response),)*
        }

        impl Request {
            /// The API it belongs to.
            pub fn key(&self) -> ApiKey {
                match self { $(Self::$name(_) => ApiKey::$name,)* }
            }

            fn read(key: ApiKey, body: Bytes, version: i16) -> Result<Self, Source> {
                let version = key.entry().request_codec.wire_version(version);
                Ok(match key { $(ApiKey::$name => Self::$name(Wire::read(body, version)?),)* })
            }

            fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
                let version = self.key().entry().request_codec.wire_version(version);
                match self { $(Self::$name(message) => message.write(writer, version),)* }
            }
        }

        impl Response {
            /// The API it belongs to.
            pub fn key(&self) -> ApiKey {
                match self { $(Self::$name(_) => ApiKey::$name,)* }
            }

            fn read(key: ApiKey, body: Bytes, version: i16) -> Result<Self, Source> {
                let version = key.entry().response_codec.wire_version(version);
                Ok(match key { $(ApiKey::$name => Self::$name(Wire::read(body, version)?),)* })
            }

            fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
                let version = self.key().entry().response_codec.wire_version(version);
                match self { $(Self::$name(message) => message.write(writer, version),)* }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(message: $request) -> Self {
                    Self::$name(message)
                }
            }

            impl From<$response> for Response {
                fn from(message: $response) -> Self {
                    Self::$name(message)
                }
            }
        )*
    };
}
with_api_table!(define_messages);

/// Decodes a request from its frame, without the length prefix. Byte fields are slices of it.
///
/// # Errors
/// [`Error::UnsupportedVersion`] of ApiVersions is answered with
/// [`encode_unsupported_api_versions`]; every other error closes the connection, as in Kafka.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request)> {
    let peek = RequestPeek::read(&frame)?;
    let entry = peek.entry()?;
    let (key, version) = (entry.key, peek.version);
    let mut reader = Reader::new(frame, MIN_REQUEST_FRAME_BYTES);
    let client_id = reader.nullable_string(false)?;
    if entry.request_header_version(version) >= 2 {
        reader.skip_tagged()?;
    }
    let (frame, at) = reader.into_parts();
    let most = request_elements(frame.len());
    let end = guard::check(Side::Request, entry, version, &frame, at, most)?;
    let request =
        Request::read(key, frame.slice(at..end), version).map_err(|source| Error::Decode {
            key,
            version,
            source,
        })?;
    let header = RequestHeader {
        key,
        version,
        correlation_id: peek.correlation_id,
        client_id,
    };
    Ok((header, request))
}

/// Encodes a response, length prefix first.
///
/// # Errors
/// If `response` is not of API `key` or cannot be expressed in `version`: a defect of ours.
pub fn encode_response(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &Response,
) -> Result<EncodedFrame> {
    let mut writer = Writer::framed();
    writer.i32(correlation_id);
    if key.entry().response_header_version(version) >= 1 {
        writer.varint(0);
    }
    let written = match response.key() {
        own if own == key => response.write(&mut writer, version),
        other => Err(format!("the response is one of {other}").into()),
    };
    finish(key, version, writer, written)
}

/// The answer to an ApiVersions request of a version that is not served: body of version 0, error
/// UNSUPPORTED_VERSION, and our range for ApiVersions alone, so that the client can ask again
/// (KIP-511). The connection stays open.
///
/// # Errors
/// None in practice; encoding is fallible by type.
pub fn encode_unsupported_api_versions(correlation_id: i32) -> Result<EncodedFrame> {
    let key = ApiKey::ApiVersions;
    let entry = key.entry();
    let range = api_versions_response::ApiVersion::default()
        .with_api_key(key.code())
        .with_min_version(entry.advertised_min)
        .with_max_version(entry.max_version);
    let response = ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(vec![range]);
    encode_response(key, 0, correlation_id, &Response::ApiVersions(response))
}

/// Encodes a request, length prefix first: the client's side.
///
/// # Errors
/// If `request` cannot be expressed in `version`, or `version` is not served.
pub fn encode_request(
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &Request,
) -> Result<EncodedFrame> {
    let key = request.key();
    let mut writer = Writer::framed();
    writer.i16(key.code());
    writer.i16(version);
    writer.i32(correlation_id);
    let mut written = writer
        .nullable_string(client_id, false)
        .map_err(Source::from);
    if key.entry().request_header_version(version) >= 2 {
        writer.varint(0);
    }
    if written.is_ok() {
        written = request.write(&mut writer, version);
    }
    finish(key, version, writer, written)
}

fn finish(
    key: ApiKey,
    version: i16,
    writer: Writer,
    written: Result<(), Source>,
) -> Result<EncodedFrame> {
    let error = |source| Error::Encode {
        key,
        version,
        source,
    };
    written.map_err(error)?;
    writer.finish().map_err(|too_long| error(too_long.into()))
}

/// Decodes the response to a request of API `key` and `version` from its frame, without the
/// length prefix: the client's side. Gives the correlation id too.
///
/// # Errors
/// If the frame is malformed.
pub fn decode_response(key: ApiKey, version: i16, frame: Bytes) -> Result<(i32, Response)> {
    let entry = key.entry();
    let mut reader = Reader::new(frame, 0);
    let correlation_id = reader.i32()?;
    if !entry.serves(version) {
        return Err(Error::UnsupportedVersion {
            key,
            version,
            correlation_id,
        });
    }
    if entry.response_header_version(version) >= 1 {
        reader.skip_tagged()?;
    }
    let (frame, at) = reader.into_parts();
    guard::check(
        Side::Response,
        entry,
        version,
        &frame,
        at,
        MAX_RESPONSE_ELEMENTS,
    )?;
    let response =
        Response::read(key, frame.slice(at..), version).map_err(|source| Error::Decode {
            key,
            version,
            source,
        })?;
    Ok((correlation_id, response))
}

/// The ranges that an ApiVersions response of any version lists, in order of keys.
pub fn advertised_api_keys() -> Vec<api_versions_response::ApiVersion> {
    api::all()
        .iter()
        .map(|entry| {
            api_versions_response::ApiVersion::default()
                .with_api_key(entry.key.code())
                .with_min_version(entry.advertised_min)
                .with_max_version(entry.max_version)
        })
        .collect()
}

#[cfg(test)]
mod tests;
