//! One connection: a request, its answer, in order.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use env::{BoxStream, Env};
use protocol::messages::{ApiVersionsRequest, StrBytes};
use protocol::{ApiKey, Request, Response, decode_response, encode_request, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Error;

/// Largest answer that is read, bytes.
const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// How a client presents itself and how long it waits.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Kafka's `client.id`.
    pub client_id: String,
    /// Longest wait for an answer; a call's own waiting time (Fetch, JoinGroup) must be below it.
    pub timeout: Duration,
}

/// A connection whose versions are agreed.
pub struct Connection {
    stream: BoxStream,
    address: SocketAddr,
    settings: Settings,
    /// (key, lowest, highest) as the peer serves them.
    versions: Vec<(i16, i16, i16)>,
    correlation_id: i32,
    received: BytesMut,
}

impl Connection {
    /// Connects and asks which versions the peer serves.
    ///
    /// # Errors
    /// [`Error::Connect`], or any of a call.
    pub async fn open(env: &Env, address: SocketAddr, settings: Settings) -> Result<Self, Error> {
        let connecting = timeout(settings.timeout, env.net.connect(address));
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => {
                return Err(Error::Connect {
                    address: address.to_string(),
                    source,
                });
            }
            Err(_) => {
                let source = io::ErrorKind::TimedOut.into();
                return Err(Error::Connect {
                    address: address.to_string(),
                    source,
                });
            }
        };
        let mut connection = Self {
            stream,
            address,
            settings,
            versions: Vec::new(),
            correlation_id: 0,
            received: BytesMut::new(),
        };
        connection.agree().await?;
        Ok(connection)
    }

    /// The peer.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn agree(&mut self) -> Result<(), Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("headwater"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let answer = self.call_version(request.into(), 3).await?;
        let Response::ApiVersions(answer) = answer else {
            return Err(self.unreadable(ApiKey::ApiVersions, "not an ApiVersions answer"));
        };
        Error::check("ApiVersions", answer.error_code, None)?;
        let ranges = answer.api_keys.iter();
        self.versions = ranges
            .map(|r| (r.api_key, r.min_version, r.max_version))
            .collect();
        Ok(())
    }

    /// The highest version of `api` that both sides serve, at most `at_most`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when there is none.
    pub fn version(&self, api: ApiKey, at_most: i16) -> Result<i16, Error> {
        let ours = api.entry();
        let theirs = self.versions.iter().find(|(key, ..)| *key == api.code());
        theirs
            .map(|(_, low, high)| (ours.min_version.max(*low), ours.max_version.min(*high)))
            .map(|(low, high)| (low, high.min(at_most)))
            .filter(|(low, high)| low <= high)
            .map(|(_, high)| high)
            .ok_or_else(|| Error::Unsupported {
                address: self.address.to_string(),
                api,
            })
    }

    /// Sends `request` in the highest version that both sides know and waits for the answer.
    ///
    /// # Errors
    /// After any but `Unsupported` the connection is of no further use.
    pub async fn call(&mut self, request: impl Into<Request>) -> Result<Response, Error> {
        let request = request.into();
        let version = self.version(request.key(), i16::MAX)?;
        self.call_version(request, version).await
    }

    /// As [`Connection::call`], in a version of the caller's choice.
    ///
    /// # Errors
    /// As there.
    pub async fn call_version(
        &mut self,
        request: Request,
        version: i16,
    ) -> Result<Response, Error> {
        let api = request.key();
        let limit = self.settings.timeout;
        match timeout(limit, self.exchange(request, version)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                address: self.address.to_string(),
                api,
                limit,
            }),
        }
    }

    async fn exchange(&mut self, request: Request, version: i16) -> Result<Response, Error> {
        let api = request.key();
        self.send(&request, version).await?;
        let answer = self
            .receive()
            .await
            .map_err(|source| self.broken(api, source))?;
        let (correlation_id, response) = decode_response(api, version, answer)
            .map_err(|error| self.unreadable(api, &error.to_string()))?;
        if correlation_id != self.correlation_id {
            return Err(self.unreadable(api, "it belongs to another request"));
        }
        Ok(response)
    }

    /// Sends `request` without waiting for an answer: for produce with acks=0, or to pipeline.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send(&mut self, request: &Request, version: i16) -> Result<(), Error> {
        let api = request.key();
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let id = self.correlation_id;
        let frame = encode_request(version, id, Some(&self.settings.client_id), request)
            .map_err(|error| self.unreadable(api, &error.to_string()))?;
        for segment in frame.segments() {
            let sent = self.stream.write_all(segment).await;
            sent.map_err(|source| self.broken(api, source))?;
        }
        self.stream
            .flush()
            .await
            .map_err(|source| self.broken(api, source))
    }

    /// The next answer frame, whatever it answers.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn receive(&mut self) -> io::Result<Bytes> {
        loop {
            let split = frame::split_response(&mut self.received, MAX_RESPONSE_BYTES);
            if let Some(frame) = split.map_err(io::Error::other)? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn broken(&self, api: ApiKey, source: io::Error) -> Error {
        Error::Broken {
            address: self.address.to_string(),
            api,
            source,
        }
    }

    fn unreadable(&self, api: ApiKey, reason: &str) -> Error {
        Error::Unreadable {
            address: self.address.to_string(),
            api,
            reason: reason.to_owned(),
        }
    }
}
