//! DeleteGroupsResponse, versions 0-3. Written by protocol/generator from the message
//! definitions in kafka-clients-4.4.0.jar; not edited.

use bytes::Bytes;

use crate::codec::segments::Writer;
use crate::codec::wire::Reader;
use crate::codec::{Wire, setters};
use crate::error::{Result, Source};
use crate::messages::{GroupId, StrBytes};

/// Versions 0-3.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DeleteGroupsResponse {
    /// From version 0 to 3.
    pub throttle_time_ms: i32,
    /// From version 0 to 3.
    pub results: Vec<DeletableGroupResult>,
}

impl DeleteGroupsResponse {
    setters! {
        with_throttle_time_ms throttle_time_ms: i32;
        with_results results: Vec<DeletableGroupResult>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 2;
        this.throttle_time_ms = reader.i32()?;
        this.results = reader.array(flexible, |reader| {
            DeletableGroupResult::read_from(reader, version)
        })?;
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 2;
        writer.i32(self.throttle_time_ms);
        writer.array_len(Some(self.results.len()), flexible)?;
        for item in &self.results {
            item.write_to(writer, version)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}

impl Wire for DeleteGroupsResponse {
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

/// Versions 0-3.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct DeletableGroupResult {
    /// From version 0 to 3.
    pub group_id: GroupId,
    /// From version 0 to 3.
    pub error_code: i16,
    /// From version 3 to 3.
    pub error_message: Option<StrBytes>,
}

impl DeletableGroupResult {
    setters! {
        with_group_id group_id: GroupId;
        with_error_code error_code: i16;
        with_error_message error_message: Option<StrBytes>;
    }

    fn read_from(reader: &mut Reader, version: i16) -> Result<Self> {
        let mut this = Self::default();
        let flexible = version >= 2;
        this.group_id = GroupId(reader.string(flexible)?);
        this.error_code = reader.i16()?;
        if version >= 3 {
            this.error_message = reader.nullable_string(flexible)?;
        }
        if flexible {
            reader.skip_tagged()?;
        }
        Ok(this)
    }

    fn write_to(&self, writer: &mut Writer, version: i16) -> Result<(), Source> {
        let flexible = version >= 2;
        writer.nullable_string(Some(&self.group_id), flexible)?;
        writer.i16(self.error_code);
        if version >= 3 {
            writer.nullable_string(self.error_message.as_deref(), flexible)?;
        }
        if flexible {
            writer.no_tagged();
        }
        Ok(())
    }
}
