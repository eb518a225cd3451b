//! TensorBoard event files: TFRecords of `Event` messages.
//!
//! A record is its length (u64), the masked CRC-32C of those 8 bytes, the message, and the masked
//! CRC-32C of the message, all little-endian (TensorFlow, `core/lib/io/record_writer.cc`). The
//! messages are the few fields of `event.proto` and `summary.proto` that scalars need.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// The record that an event file begins with.
pub fn version(wall_time: f64) -> Vec<u8> {
    record(&Event {
        wall_time,
        step: 0,
        file_version: Some("brain.Event:2".to_owned()),
        summary: None,
    })
}

/// A record with the scalars of one step.
pub fn scalars(wall_time: f64, step: u32, values: &[(&str, f64)]) -> Vec<u8> {
    let value = values
        .iter()
        .map(|(tag, value)| Value {
            tag: (*tag).to_owned(),
            simple_value: Some(*value as f32),
        })
        .collect();
    record(&Event {
        wall_time,
        step: i64::from(step),
        file_version: None,
        summary: Some(Summary { value }),
    })
}

/// Length of the leading records that are whole and for which `keep(step)` holds.
pub fn kept_length(bytes: &[u8], mut keep: impl FnMut(i64) -> bool) -> usize {
    let mut at = 0;
    while let Some((event, length)) = first(&bytes[at..]) {
        if !keep(event.step) {
            break;
        }
        at += length;
    }
    at
}

/// The wall time of the first record, if that is whole.
pub fn began(bytes: &[u8]) -> Option<f64> {
    first(bytes).map(|(event, _)| event.wall_time)
}

/// The first event and the length of its record, if it is whole.
fn first(bytes: &[u8]) -> Option<(Event, usize)> {
    let header = bytes.first_chunk::<8>()?;
    let length = usize::try_from(u64::from_le_bytes(*header)).ok()?;
    let end = length.checked_add(12)?;
    let data = bytes.get(12..end)?;
    let crc = |at: usize| {
        bytes
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_le_bytes)
    };
    let whole = crc(8)? == masked(header) && crc(end)? == masked(data);
    let event = Event::decode(data).ok()?;
    whole.then_some((event, end + 4))
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(data.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(&data);
    out.extend_from_slice(&masked(&data).to_le_bytes());
    out
}

/// TFRecord's masked checksum: a CRC of data that holds CRCs would be weak.
fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), bit by bit: records are small.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnoli() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    }

    /// Written by tensorboard 2.21's `RecordWriter` from messages with these fields.
    #[test]
    fn records_are_tensorboard_s() {
        use crate::base::fsio::hex;
        assert_eq!(
            hex(&version(1.5)),
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
        );
        let record = scalars(2.25, 300, &[("train/loss", 0.625), ("train/lr", 1e-5)]);
        assert_eq!(
            hex(&record),
            "3200000000000000241956ec09000000000000024010ac022a240a110a0a747261696e2f6c6f7373\
             150000203f0a0f0a08747261696e2f6c7215acc5273729d39601"
        );
    }

    #[test]
    fn a_file_is_cut_at_a_step_or_a_torn_record() {
        let mut file = version(1.0);
        let mut ends = vec![file.len()];
        for step in 1..=3 {
            file.extend(scalars(2.0, step, &[("train/loss", 0.5)]));
            ends.push(file.len());
        }
        assert_eq!(kept_length(&file, |_| true), file.len());
        assert_eq!(kept_length(&file, |step| step <= 2), ends[2]);
        assert_eq!(kept_length(&file[..file.len() - 1], |_| true), ends[2]);
        file[ends[0] + 20] ^= 1;
        assert_eq!(kept_length(&file, |_| true), ends[0], "a damaged record");
    }
}
