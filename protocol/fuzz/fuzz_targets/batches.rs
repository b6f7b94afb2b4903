//! Batches: whatever lies in the buffer is split, checked, decompressed within a cap and read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{Batches, EndTransactionMarker, set_log_append_time};

const CAP_BYTES: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    for batch in Batches::new(input).flatten() {
        let _ = batch.validate_produced();
        let mut patched = batch.bytes().to_vec();
        set_log_append_time(&mut patched, 1);
        let header = batch.header_at_append_time(batch.base_offset(), batch.leader_epoch(), 1);
        assert_eq!(patched[..header.len()], header);
        let Ok(payload) = batch.decompress(CAP_BYTES) else { continue };
        assert!(payload.len() <= CAP_BYTES || payload.len() == batch.payload().len());
        for record in batch.records(&payload).flatten() {
            assert_eq!(record.headers.iter().count(), record.headers.len());
            let _ = EndTransactionMarker::read(&record);
        }
    }
});
