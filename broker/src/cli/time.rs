//! Times on the command line.

use anyhow::{Context, Result, ensure};

/// Milliseconds since the Unix epoch for `2026-11-23T03:18:00Z`, `2026-11-23`, with an offset as
/// in `+01:00`, or `@1700000000000`.
///
/// # Errors
/// When it is none of these.
pub(crate) fn parse_time_ms(text: &str) -> Result<i64> {
    if let Some(millis) = text.strip_prefix('@') {
        return millis
            .parse()
            .with_context(|| format!("{text:?}: expected milliseconds after @"));
    }
    parse_rfc3339(text).with_context(|| {
        format!("{text:?} is no time: expected 2026-11-23, 2026-11-23T03:18:00Z or @milliseconds")
    })
}

fn parse_rfc3339(text: &str) -> Result<i64> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00Z"),
    };
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let mut next = || parts.next().context("too short")?.context("not a number");
    let (year, month, day) = (next()?, next()?, next()?);
    ensure!((1970..=9999).contains(&year), "year out of range");
    ensure!(
        (1..=12).contains(&month) && (1..=31).contains(&day),
        "no such day"
    );
    let (clock, offset_minutes) = split_offset(time)?;
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = whole.splitn(3, ':').map(str::parse::<i64>);
    let hour = parts.next().context("no hour")?.context("hour")?;
    let minute = parts.next().transpose().context("minute")?.unwrap_or(0);
    let second = parts.next().transpose().context("second")?.unwrap_or(0);
    ensure!(
        hour < 24 && minute < 60 && second < 60,
        "no such time of day"
    );
    ensure!(
        fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit()),
        "fraction"
    );
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().context("fraction")?;
    let minutes = (days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Ok((minutes * 60 + second) * 1000 + millis)
}

/// Time of day, and minutes east of UTC.
fn split_offset(time: &str) -> Result<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Ok((clock, 0));
    }
    let Some(at) = time.rfind(['+', '-']) else {
        return Ok((time, 0));
    };
    let (clock, offset) = time.split_at(at);
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset[1..]
        .split_once(':')
        .context("offset is not +HH:MM")?;
    Ok((
        clock,
        sign * (hours.parse::<i64>()? * 60 + minutes.parse::<i64>()?),
    ))
}

/// Days from 1970-01-01 in the Gregorian calendar, by counting from 1 March so that the leap day
/// comes last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year / 4 - year / 100 + year / 400;
    // 153 days in every five months from March on; 719468 days before 1970-01-01 from 0000-03-01.
    365 * year + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse_time_ms;

    #[test]
    fn reads_the_forms_it_promises() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-11-23T03:18:00.5Z", 1_795_403_880_500),
            ("2026-11-23T04:18:00+01:00", 1_795_403_880_000),
            ("@1700000000000", 1_700_000_000_000),
        ] {
            assert_eq!(parse_time_ms(text).unwrap(), expected, "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-01-01T25:00:00Z", "@x"] {
            assert!(parse_time_ms(text).is_err(), "{text:?}");
        }
    }
}
