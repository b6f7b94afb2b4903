//! Our side of the cross-check with Kafka's Java classes: one line per frame or batch, in hex.
//!
//! ```text
//! emit    lines of ours:  message KEY VERSION request|response FRAME
//!                         batch CODEC UNCOMPRESSED BATCH
//! check   reads such lines of theirs; says ok or FAIL for each
//! ```

use std::io::{self, BufRead, Write};

use bytes::Bytes;
use protocol::synth::{self, Flavour, Side};
use protocol::{
    ApiEntry, BatchBuilder, BatchView, Compression, Record, api, decode_request, decode_response,
    encode_request, encode_response,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match std::env::args().nth(1).as_deref() {
        Some("emit") => emit(&mut out)?,
        Some("check") => {
            for line in io::stdin().lock().lines() {
                check(&line?, &mut out)?;
            }
        }
        _ => return Err("usage: crosscheck emit|check".into()),
    }
    Ok(out.flush()?)
}

fn emit(out: &mut impl Write) -> Result<(), Failure> {
    for entry in api::all() {
        for version in entry.versions() {
            for (side, word) in [(Side::Request, "request"), (Side::Response, "response")] {
                for (seed, flavour) in
                    [(1, Flavour::Full), (2, Flavour::Full), (3, Flavour::Sparse)]
                {
                    let made_up = synth::frame(side, entry, version, flavour, seed);
                    let frame = recode(side, entry, version, made_up)?;
                    let key = entry.key.code();
                    writeln!(out, "message {key} {version} {word} {}", hex(&frame))?;
                }
            }
        }
    }
    for codec in Compression::ALL {
        for count in [1, 5, 300] {
            let plain = batch(Compression::None, count)?;
            let batch = batch(codec, count)?;
            writeln!(
                out,
                "batch {} {} {}",
                codec.name(),
                hex(&plain),
                hex(&batch)
            )?;
        }
    }
    Ok(())
}

/// Decodes and encodes a frame with our codec.
fn recode(
    side: Side,
    entry: &ApiEntry,
    version: i16,
    frame: Bytes,
) -> Result<Bytes, protocol::Error> {
    let encoded = match side {
        Side::Request => {
            let (header, request) = decode_request(frame)?;
            let client_id = header.client_id.as_deref();
            encode_request(header.version, header.correlation_id, client_id, &request)?
        }
        Side::Response => {
            let (correlation_id, response) = decode_response(entry.key, version, frame)?;
            encode_response(entry.key, version, correlation_id, &response)?
        }
    };
    Ok(encoded.to_frame())
}

fn batch(codec: Compression, count: usize) -> Result<Bytes, protocol::Error> {
    let mut builder = BatchBuilder::new()
        .base_offset(1_000_000_007)
        .leader_epoch(5)
        .compression(codec)
        .producer(77, 2, 12);
    for i in 0..count {
        let key = format!("key {i}");
        let value = "value ".repeat(i % 50);
        let headers: &[(&str, Option<&[u8]>)] =
            &[("twice", Some(b"a")), ("null", None), ("twice", Some(b"b"))];
        builder.append(
            1_700_000_000_000 + (i as i64 * 7919) % 10_000 - 5_000,
            (i % 3 != 1).then_some(key.as_bytes()),
            (i % 5 != 4).then_some(value.as_bytes()),
            if i % 2 == 0 { &[] } else { headers },
        );
    }
    builder.build()
}

fn check(line: &str, out: &mut impl Write) -> Result<(), Failure> {
    let words: Vec<&str> = line.split(' ').collect();
    let (name, result) = match words[..] {
        ["message", key, version, side, frame] => (
            words[..4].join(" "),
            check_message(key, version, side, frame),
        ),
        ["batch", codec, plain, batch] => (words[..2].join(" "), check_batch(codec, plain, batch)),
        _ => return Err(format!("not a line of the cross-check: {line}").into()),
    };
    match result {
        Ok(()) => writeln!(out, "ok {name}")?,
        Err(error) => writeln!(out, "FAIL {name}: {error}")?,
    }
    Ok(())
}

fn check_message(key: &str, version: &str, side: &str, frame: &str) -> Result<(), Failure> {
    let entry = api::find(key.parse()?).ok_or("not served")?;
    let side = if side == "request" {
        Side::Request
    } else {
        Side::Response
    };
    let frame = Bytes::from(unhex(frame)?);
    let again = recode(side, entry, version.parse()?, frame.clone())?;
    if again != frame {
        return Err(format!("{} for {}", hex(&again), hex(&frame)).into());
    }
    Ok(())
}

/// The batch must hold the records of its uncompressed twin, and building one again from those
/// must give the twin's bytes.
fn check_batch(codec: &str, plain: &str, batch: &str) -> Result<(), Failure> {
    let (plain, batch) = (unhex(plain)?, unhex(batch)?);
    let (plain, batch) = (BatchView::new(&plain)?, BatchView::new(&batch)?);
    plain.validate_produced()?;
    batch.validate_produced()?;
    if batch.compression()?.name() != codec {
        return Err("compressed with another codec".into());
    }
    let payload = batch.decompress(1 << 20)?;
    let records = batch
        .records(&payload)
        .collect::<Result<Vec<Record<'_>>, _>>()?;
    let mut builder = BatchBuilder::new()
        .base_offset(batch.base_offset())
        .leader_epoch(batch.leader_epoch())
        .producer(
            batch.producer_id(),
            batch.producer_epoch(),
            batch.base_sequence(),
        );
    for record in &records {
        builder.append_record(record)?;
    }
    if builder.build()? != plain.bytes() {
        return Err("built again it is another batch".into());
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    (0..text.len())
        .step_by(2)
        .map(|at| {
            let digits = text.get(at..at + 2).ok_or("an odd number of digits")?;
            Ok(u8::from_str_radix(digits, 16)?)
        })
        .collect()
}
