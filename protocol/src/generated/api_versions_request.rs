//! ApiVersionsRequest, versions 0-5. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;

use crate::codec::segments::Writer;
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::StrBytes;

/// Versions 0-5.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ApiVersionsRequest {
    /// From version 3 to 5.
    pub client_software_name: StrBytes,
    /// From version 3 to 5.
    pub client_software_version: StrBytes,
    /// From version 5 to 5.
    pub cluster_id: Option<StrBytes>,
    /// From version 5 to 5.
    pub node_id: i32,
}

impl Default for ApiVersionsRequest {
    fn default() -> Self {
        Self {
            client_software_name: Default::default(),
            client_software_version: Default::default(),
            cluster_id: None,
            node_id: -1,
        }
    }
}

impl ApiVersionsRequest {
    setters! {
        with_client_software_name client_software_name: StrBytes;
        with_client_software_version client_software_version: StrBytes;
        with_cluster_id cluster_id: Option<StrBytes>;
        with_node_id node_id: i32;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 3;
        if version >= 3 {
            this.client_software_name = reader.string(flexible)?;
        }
        if version >= 3 {
            this.client_software_version = reader.string(flexible)?;
        }
        if version >= 5 {
            this.cluster_id = reader.nullable_string(flexible)?;
        }
        if version >= 5 {
            this.node_id = reader.i32()?;
        }
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 3;
        if version >= 3 {
            writer.nullable_string(Some(&self.client_software_name), flexible)?;
        }
        if version >= 3 {
            writer.nullable_string(Some(&self.client_software_version), flexible)?;
        }
        if version >= 5 {
            writer.nullable_string(self.cluster_id.as_deref(), flexible)?;
        }
        if version >= 5 {
            writer.i32(self.node_id);
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

impl Wire for ApiVersionsRequest {
    fn read(body: Bytes, version: i16) -> Result<Self, Source> {
        let mut reader = Reader::new(body, 0);
        let message = Self::read_from(&mut reader, version)?;
        reader.end_of_message()?;
        Ok(message)
    }

    fn write(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        self.write_to(writer, version)
    }
}
