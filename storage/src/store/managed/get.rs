//! Gets: bodies of bounded size are read whole within the time of the request, so that a body that
//! stalls or stops short is a failed attempt and not a surprise later.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, GetResult, GetResultPayload, OBJECT_STORE_COALESCE_DEFAULT,
    ObjectStoreExt, Result, coalesce_ranges,
};
use tokio::time::sleep;

use super::super::metrics::Operation;
use super::{ManagedStore, generic, may_pass};

/// Larger bodies are handed on as they come.
const COLLECT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The body was not as long as the answer said.
#[derive(Debug, thiserror::Error)]
#[error("a body of {found} bytes where {expected} were announced")]
struct WrongLength {
    expected: u64,
    found: u64,
}

pub(super) fn is_wrong_length(error: &Error) -> bool {
    matches!(error, Error::Generic { source, .. } if source.is::<WrongLength>())
}

impl ManagedStore {
    pub(super) async fn get(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head {
            Operation::Head
        } else {
            Operation::Get
        };
        let asked = match &options.range {
            Some(GetRange::Bounded(range)) => range.end.saturating_sub(range.start),
            Some(GetRange::Suffix(length)) => *length,
            Some(GetRange::Offset(_)) | None => COLLECT_MAX_BYTES,
        };
        let asked = if options.head {
            0
        } else {
            asked.min(COLLECT_MAX_BYTES)
        };
        let limit = self.settings.time_for(asked);
        let request = || self.hedged(operation, location, &options);
        let result = self.repeat(operation, limit, request).await?;
        Ok(result)
    }

    /// Several ranges of one object, as the store below likes to read them: a file into buffers of
    /// their own, others by as few requests as possible.
    pub(super) async fn ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> Result<Vec<Bytes>> {
        if self.settings.hedge_gets_after.is_some() {
            let get = |range| self.get_range(location, range);
            return coalesce_ranges(ranges, get, OBJECT_STORE_COALESCE_DEFAULT).await;
        }
        let length = |range: &Range<u64>| range.end.saturating_sub(range.start);
        let expected: u64 = ranges.iter().map(length).sum();
        let limit = self.settings.time_for(expected.min(COLLECT_MAX_BYTES));
        let request = || async {
            let bodies = self.inner.get_ranges(location, ranges).await?;
            let found = bodies.iter().map(|body| body.len() as u64).sum();
            let right = bodies.iter().map(|body| body.len() as u64);
            if !right.eq(ranges.iter().map(length)) {
                return Err(generic(Box::new(WrongLength { expected, found })));
            }
            self.metrics.received(found);
            Ok(bodies)
        };
        self.repeat(Operation::Get, limit, request).await
    }

    /// One get, and a second one when the first is slow; the first answer counts.
    async fn hedged(
        &self,
        operation: Operation,
        location: &Path,
        options: &GetOptions,
    ) -> Result<GetResult> {
        let Some(after) = self.settings.hedge_gets_after else {
            return self.get_once(location, options.clone()).await;
        };
        let first = self.get_once(location, options.clone());
        tokio::pin!(first);
        tokio::select! {
            biased;
            result = &mut first => return result,
            () = sleep(after) => {}
        }
        self.metrics.hedge(operation);
        let second = self.get_once(location, options.clone());
        tokio::pin!(second);
        tokio::select! {
            biased;
            result = &mut first => match result {
                Err(error) if may_pass(&error) => second.await,
                result => result,
            },
            result = &mut second => match result {
                Err(error) if may_pass(&error) => first.await,
                result => result,
            },
        }
    }

    async fn get_once(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        let expected = result.range.end.saturating_sub(result.range.start);
        if head || expected > COLLECT_MAX_BYTES {
            return Ok(result);
        }
        let GetResult {
            payload: GetResultPayload::Stream(mut body),
            meta,
            range,
            ..
        } = result;
        let mut pieces: Vec<Bytes> = Vec::new();
        let mut found = 0;
        while let Some(piece) = body.next().await {
            let piece = piece?;
            found += piece.len() as u64;
            if found > expected {
                break;
            }
            pieces.push(piece);
        }
        if found != expected {
            return Err(generic(Box::new(WrongLength { expected, found })));
        }
        self.metrics.received(found);
        let body = futures::stream::iter(pieces.into_iter().map(Ok)).boxed();
        Ok(GetResult {
            payload: GetResultPayload::Stream(body),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }
}
