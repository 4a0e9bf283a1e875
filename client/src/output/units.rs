//! Numbers as people read them.

/// Octets: `0 B`, `1023 B`, `1.5 KiB`, `12 MiB`.
#[must_use]
pub fn bytes_for_people(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut shift: u32 = 10;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if bytes >> shift < 1024 {
            break;
        }
        shift += 10;
        unit = next;
    }
    let whole = bytes >> shift;
    let tenth = ((u128::from(bytes) * 10) >> shift) % 10;
    if whole < 10 && tenth > 0 { format!("{whole}.{tenth} {unit}") } else { format!("{whole} {unit}") }
}

/// A span: `350ms`, `12s`, `3m05s`, `2h03m`, `4d05h`.
#[must_use]
pub fn duration_for_people(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..=9 => format!("{seconds}.{}s", ms % 1000 / 100),
        10..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A span in microseconds: `350µs`, `12.3ms`, then as [`duration_for_people`].
#[must_use]
pub(super) fn microseconds_for_people(us: u64) -> String {
    match us {
        0..=999 => format!("{us}µs"),
        1000..=99_999 => format!("{}.{}ms", us / 1000, us % 1000 / 100),
        _ => duration_for_people(us / 1000),
    }
}

/// A moment in UTC: `2026-11-21T07:10:45Z`.
#[must_use]
pub fn time_text(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let second = seconds % 86_400;
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Year, month, day of a day counted from 1970-01-01 in the Gregorian calendar: years that begin in March, so that
/// the leap day is the last of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_short() {
        for (bytes, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (10 * 1024 * 1024 + 1, "10 MiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "15 EiB"),
        ] {
            assert_eq!(bytes_for_people(bytes), expected);
        }
    }

    #[test]
    fn spans_are_short() {
        for (ms, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1500, "1.5s"),
            (12_345, "12s"),
            (185_000, "3m05s"),
            (7_380_000, "2h03m"),
            (363_600_000, "4d05h"),
        ] {
            assert_eq!(duration_for_people(ms), expected);
        }
        for (us, expected) in [(7, "7µs"), (12_345, "12.3ms"), (1_500_000, "1.5s")] {
            assert_eq!(microseconds_for_people(us), expected);
        }
    }

    #[test]
    fn moments_are_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_795_245_045, "2026-11-21T07:10:45Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(time_text(seconds * 1000), expected);
        }
    }
}
