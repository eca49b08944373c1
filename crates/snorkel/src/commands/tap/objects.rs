//! The objects of `--json`, one an event (docs/json.md).

use std::net::IpAddr;

use serde::Serialize;
use snorkel_tap::decode::Said;
use snorkel_tap::event::{Event, Summary, Time, What};

use super::show::Called;
use crate::failure::Failure;

#[derive(Serialize)]
struct Object<'a> {
    time: String,
    event: &'static str,
    connection: u64,
    client: Socket<'a>,
    server: Socket<'a>,
    #[serde(flatten)]
    said: Option<&'a Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(flatten)]
    ended: Option<&'a Summary>,
}

#[derive(Serialize)]
struct Socket<'a> {
    address: IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// One line.
pub(super) fn object(tap: usize, event: &Event, called: &Called) -> Result<String, Failure> {
    let socket = |address: std::net::SocketAddr| Socket {
        address: address.ip(),
        port: address.port(),
        name: called.name(tap, address),
    };
    let mut object = Object {
        time: rfc3339(event.time),
        event: "opened",
        connection: event.connection.0,
        client: socket(event.ends.client),
        server: socket(event.ends.server),
        said: None,
        data: None,
        ended: None,
    };
    match &event.what {
        What::Opened => {}
        What::Said(said) => {
            object.event = "said";
            object.said = Some(said);
            object.data = (!said.bytes.is_empty()).then(|| escaped(&said.bytes));
        }
        What::Ended(summary) => {
            object.event = "ended";
            object.ended = Some(summary);
        }
        What::Bytes { .. } | What::Urgent { .. } | What::Datagram { .. } | What::Finished { .. } => {
            return Ok(String::new());
        }
    }
    let mut line = serde_json::to_string(&object)?;
    line.push('\n');
    Ok(line)
}

/// Bytes that are not printable ASCII stand as `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text
}

/// Universal time to the nanosecond.
pub(super) fn rfc3339(time: Time) -> String {
    let (seconds, nanoseconds) = (time.0 / 1_000_000_000, time.0 % 1_000_000_000);
    let (days, of_day) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Years are counted from March, so that the day which only leap years have is the last of one.
    let from_year_0 = days + 719_468;
    let (era, of_era) = (from_year_0.div_euclid(146_097), from_year_0.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(Time(0)), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(Time(951_782_400_000_000_001)), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(rfc3339(Time(1_795_996_800_500_000_000)), "2026-11-30T00:00:00.500000000Z");
    }

    #[test]
    fn bytes_can_be_told_apart_again() {
        assert_eq!(escaped(b"a\\\n\xff"), "a\\\\\\x0a\\xff");
    }
}
