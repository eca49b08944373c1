//! The time in front of a line. The part down to the second is written once a second, the zone's offset asked for once
//! in a quarter of an hour, since no zone changes at any other time.

use super::text;
use crate::packet::Timestamp;

/// How the time of a packet is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// `12:03:04.123456`.
    #[default]
    Clock,
    /// `2026-11-24 12:03:04.123456`.
    Date,
    /// Seconds since 1970.
    Epoch,
    /// None.
    None,
}

/// Whose clock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// As the environment and /etc/localtime say.
    #[default]
    Local,
    /// Universal time.
    Utc,
}

const QUARTER: u64 = 900;

/// Writes times, and keeps what two of them have in common.
#[derive(Debug, Clone)]
pub struct Clock {
    format: TimeFormat,
    zone: Zone,
    nanoseconds: bool,
    second: Option<u64>,
    /// What is written for that second.
    text: Vec<u8>,
    quarter: Option<u64>,
    /// Seconds to the east of Greenwich in that quarter of an hour.
    offset: i64,
}

impl Clock {
    /// A clock that writes times in this form; to the nanosecond, or to the microsecond.
    pub fn new(format: TimeFormat, zone: Zone, nanoseconds: bool) -> Self {
        Clock { format, zone, nanoseconds, second: None, text: Vec::new(), quarter: None, offset: 0 }
    }

    /// Writes a time and a space behind it.
    #[inline]
    pub fn write(&mut self, time: Timestamp, out: &mut Vec<u8>) {
        if self.format == TimeFormat::None {
            return;
        }
        let second = time.seconds();
        if self.second != Some(second) {
            self.turn(second);
        }
        out.extend_from_slice(&self.text);
        let nanoseconds = time.nanoseconds();
        if self.nanoseconds {
            text::digits(out, nanoseconds, 9);
        } else {
            text::digits(out, nanoseconds / 1000, 6);
        }
        out.push(b' ');
    }

    #[cold]
    fn turn(&mut self, second: u64) {
        self.second = Some(second);
        self.text.clear();
        let out = &mut self.text;
        if self.format == TimeFormat::Epoch {
            text::decimal_long(out, second);
            return out.push(b'.');
        }
        if self.zone == Zone::Local && self.quarter != Some(second / QUARTER) {
            self.quarter = Some(second / QUARTER);
            self.offset = local_offset(second);
        }
        let local = second as i64 + self.offset;
        let (days, of_day) = (local.div_euclid(86_400), local.rem_euclid(86_400) as u32);
        if self.format == TimeFormat::Date {
            let (year, month, day) = date(days);
            text::digits(out, year as u32, 4);
            out.push(b'-');
            text::digits(out, month, 2);
            out.push(b'-');
            text::digits(out, day, 2);
            out.push(b' ');
        }
        for (unit, mark) in [(of_day / 3600, b':'), (of_day / 60 % 60, b':'), (of_day % 60, b'.')] {
            text::digits(out, unit, 2);
            out.push(mark);
        }
    }
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: years are counted from March,
/// so that the day which only leap years have is the last of one.
fn date(days: i64) -> (i64, u32, u32) {
    let from_year_0 = days + 719_468;
    let era = from_year_0.div_euclid(146_097);
    let of_era = from_year_0.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Seconds to the east of Greenwich of the local clock at this time.
#[allow(clippy::useless_conversion, reason = "a long has 32 bits on some machines")]
fn local_offset(second: u64) -> i64 {
    let Ok(second) = libc::time_t::try_from(second) else { return 0 };
    // SAFETY: all of the structure's fields are numbers and a pointer, for which noughts are values.
    let mut broken: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the types that localtime_r(3) wants; it keeps neither.
    let filled = unsafe { libc::localtime_r(&second, &mut broken) };
    if filled.is_null() { 0 } else { i64::from(broken.tm_gmtoff) }
}

#[cfg(test)]
mod tests {
    use super::{Clock, TimeFormat, Zone, date};
    use crate::packet::Timestamp;

    fn written(format: TimeFormat, nanoseconds: bool, time: u64) -> String {
        let mut out = Vec::new();
        Clock::new(format, Zone::Utc, nanoseconds).write(Timestamp(time), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_in_all_forms() {
        let time = 1_709_210_096_007_008_009;
        assert_eq!(written(TimeFormat::Clock, false, time), "12:34:56.007008 ");
        assert_eq!(written(TimeFormat::Date, true, time), "2024-02-29 12:34:56.007008009 ");
        assert_eq!(written(TimeFormat::Epoch, false, time), "1709210096.007008 ");
        assert_eq!(written(TimeFormat::None, false, time), "");
        assert_eq!(written(TimeFormat::Date, true, u64::MAX), "2554-07-21 23:34:33.709551615 ");
    }

    #[test]
    fn a_kept_second_is_dropped_when_another_comes() {
        let mut clock = Clock::new(TimeFormat::Clock, Zone::Utc, false);
        let mut out = Vec::new();
        for seconds in [59, 59, 60, 59] {
            clock.write(Timestamp(seconds * 1_000_000_000), &mut out);
        }
        assert_eq!(out, b"00:00:59.000000 00:00:59.000000 00:01:00.000000 00:00:59.000000 ");
    }

    #[test]
    fn dates_follow_each_other() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..214_000 {
            assert_eq!(date(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }
}
