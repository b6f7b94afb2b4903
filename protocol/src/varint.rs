//! The signed varints of records: zigzag, 32 or 64 bits.

/// Longest encoding of 32 bits, in bytes.
pub(crate) const MAX_I32_BYTES: usize = 5;
/// Longest encoding of 64 bits, in bytes.
pub(crate) const MAX_I64_BYTES: usize = 10;

/// A signed varint of 32 bits at the front of `bytes`, and the bytes it takes; `None` if it does
/// not end or does not fit.
pub(crate) fn read_i32(bytes: &[u8]) -> Option<(i32, usize)> {
    let (value, len) = read_raw(bytes, MAX_I32_BYTES)?;
    Some((unzigzag_i32(value)?, len))
}

/// A signed varint of 64 bits at the front of `bytes`, and the bytes it takes; `None` if it does
/// not end or does not fit.
pub(crate) fn read_i64(bytes: &[u8]) -> Option<(i64, usize)> {
    let (value, len) = read_raw(bytes, MAX_I64_BYTES)?;
    Some((unzigzag_i64(value), len))
}

/// The value that [`read_raw`] found, with its sign; `None` if it takes more than 32 bits.
pub(crate) fn unzigzag_i32(value: u64) -> Option<i32> {
    let value = u32::try_from(value).ok()?;
    Some((value >> 1) as i32 ^ -((value & 1) as i32))
}

/// The value that [`read_raw`] found, with its sign.
pub(crate) fn unzigzag_i64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// The varint at the front of `bytes`, of at most `max` of them, without its sign, and the bytes
/// it takes; `None` if it does not end or does not fit.
pub(crate) fn read_raw(bytes: &[u8], max: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(max).enumerate() {
        if index == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (index * 7);
        if byte < 0x80 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Writes a signed varint; those of 32 bits are the same.
pub(crate) fn write(into: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let mut values = vec![
            0,
            i64::MAX,
            i64::MIN,
            i64::from(i32::MAX),
            i64::from(i32::MIN),
        ];
        values.extend((0..63).flat_map(|bit| [1 << bit, -(1 << bit), (1 << bit) - 1]));
        for value in values {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            assert_eq!(read_i64(&bytes), Some((value, bytes.len())));
            assert_eq!(read_i64(&bytes[..bytes.len() - 1]), None);
            let narrow = i32::try_from(value).ok().map(|value| (value, bytes.len()));
            assert_eq!(read_i32(&bytes), narrow, "{value}");
        }
    }

    #[test]
    fn those_that_do_not_end_or_fit_are_none() {
        assert_eq!(read_i32(&[0xff; 5]), None);
        assert_eq!(read_i32(&[0xff, 0xff, 0xff, 0xff, 0x1f]), None);
        assert_eq!(read_i64(&[0xff; 11]), None);
        assert_eq!(
            read_i64(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            None
        );
    }
}
