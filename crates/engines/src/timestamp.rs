//! Points in time as the engines write them (RFC 3339, section 5.6): `2024-02-29T12:00:00.5Z`, `…+02:00`.

/// Seconds since the beginning of 1970; `None` for what is no time, and for Go's zero, the year 1, which means never.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let is = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|b| wanted.contains(b));
    let marks = is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":");
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let ahead = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
            if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) =>
        {
            let two = |tens: &u8, ones: &u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            let ahead = two(h1, h2) * 3600 + two(m1, m2) * 60;
            if *sign == b'-' { -ahead } else { ahead }
        }
        _ => return None,
    };
    (marks && in_range && year >= 1970)
        .then(|| days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - ahead)
}

/// Days from the beginning of 1970 to a day of the Gregorian calendar. The year is counted from March, so that the day
/// that some years have more is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // From 1 March of the year 0 to the beginning of 1970.
    const TO_1970: i64 = 719_468;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_as_date_tells_them() {
        // From `date -ud TIME +%s`.
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2024-02-29T12:00:00.5Z"), Some(1_709_208_000));
        assert_eq!(seconds("2024-03-01T00:00:00Z"), Some(1_709_251_200));
        assert_eq!(seconds("2000-12-31T23:59:59Z"), Some(978_307_199));
        assert_eq!(seconds("2024-02-29T14:00:00.123456789+02:00"), Some(1_709_208_000));
        assert_eq!(seconds("2024-02-29T06:30:00-05:30"), Some(1_709_208_000));
        for never in ["", "0001-01-01T00:00:00Z", "2024-02-29", "2024-13-01T00:00:00Z", "2024-02-29T12:00:00"]
        {
            assert_eq!(seconds(never), None, "{never}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in any::<String>(), alike in "[0-9:TZ.+-]{15,30}") {
            seconds(&text);
            seconds(&alike);
        }
    }
}
