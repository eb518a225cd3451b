//! Days of the calendar.

use time::OffsetDateTime;

/// Seconds since 1970 that SOURCE_DATE_EPOCH gives, by which builds are made reproducible
/// (reproducible-builds.org).
pub(crate) fn source_date() -> Option<f64> {
    let text = std::env::var("SOURCE_DATE_EPOCH").ok()?;
    text.trim().parse::<u32>().ok().map(f64::from)
}

/// The day (ISO 8601, UTC) of a time in seconds since 1970, and the second it begins with; nothing for
/// what no calendar has.
pub(crate) fn day(seconds: f64) -> Option<(String, i64)> {
    let time = OffsetDateTime::from_unix_timestamp(seconds.floor() as i64).ok()?;
    let midnight = time.replace_time(time::Time::MIDNIGHT);
    Some((time.date().to_string(), midnight.unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::day;

    #[test]
    fn days_are_the_calendar_s() {
        for (seconds, date, midnight) in [
            (0.0, "1970-01-01", 0),
            (951_868_799.9, "2000-02-29", 951_782_400),
            (951_868_800.0, "2000-03-01", 951_868_800),
            (1_764_288_000.5, "2025-11-28", 1_764_288_000),
        ] {
            assert_eq!(day(seconds), Some((date.to_owned(), midnight)));
        }
        assert_eq!(day(f64::INFINITY), None);
    }
}
