//! Names of rotated files, as dumpcap's ring buffer has them: `web.pcapng` becomes `web_00001_20261124030405.pcapng`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::packet::Timestamp;

/// What a series of files is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Series {
    before: Vec<u8>,
    /// The suffix with its dot; of a compressed file both.
    after: Vec<u8>,
}

impl Series {
    /// Takes a file's name (without a directory) apart.
    pub(super) fn of(name: &OsStr) -> Series {
        let name = name.as_bytes();
        let plain =
            [&b".zst"[..], b".gz"].iter().find_map(|packed| name.strip_suffix(*packed)).unwrap_or(name);
        // A dot at the front begins the name of a hidden file, no suffix.
        let dot = plain.iter().rposition(|&byte| byte == b'.').filter(|&dot| dot > 0);
        let (before, after) = name.split_at(dot.unwrap_or(plain.len()));
        Series { before: before.to_vec(), after: after.to_vec() }
    }

    /// The name of the file with this number, whose first packet came at this time.
    pub(super) fn name(&self, number: u64, time: Timestamp) -> OsString {
        let middle = format!("_{number:05}_{}", local(time));
        OsString::from_vec([&self.before[..], middle.as_bytes(), &self.after].concat())
    }
}

/// `name`, with `.zst` behind it if it has not.
pub(super) fn compressed(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    if !name.as_bytes().ends_with(b".zst") {
        name.push(".zst");
    }
    name
}

/// Reads the time zone's file, which may be out of reach later.
pub(super) fn prepare() {
    local(Timestamp(0));
}

/// A moment in local time: year, month, day, hour, minute, second as fourteen digits.
fn local(time: Timestamp) -> String {
    // Not beyond the year 2554.
    let seconds = time.seconds() as libc::time_t;
    // SAFETY: all zeros is a value of this plain struct.
    let mut broken: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to values that live longer than the call, which writes one `tm`.
    let done = unsafe { libc::localtime_r(&raw const seconds, &raw mut broken) };
    if done.is_null() {
        // The year does not fit into an int, which the types above rule out.
        return seconds.to_string();
    }
    format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}",
        i64::from(broken.tm_year) + 1900,
        broken.tm_mon + 1,
        broken.tm_mday,
        broken.tm_hour,
        broken.tm_min,
        broken.tm_sec
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> (String, String) {
        let series = Series::of(OsStr::new(name));
        (String::from_utf8(series.before).unwrap(), String::from_utf8(series.after).unwrap())
    }

    #[test]
    fn number_and_time_stand_before_the_suffix() {
        assert_eq!(parts("web.pcapng"), ("web".into(), ".pcapng".into()));
        assert_eq!(parts("web.pcapng.zst"), ("web".into(), ".pcapng.zst".into()));
        assert_eq!(parts("web.v2.cap"), ("web.v2".into(), ".cap".into()));
        assert_eq!(parts("web"), ("web".into(), String::new()));
        assert_eq!(parts("web.zst"), ("web".into(), ".zst".into()));
        assert_eq!(parts(".hidden"), (".hidden".into(), String::new()));
        let name = Series::of(OsStr::new("web.pcapng")).name(7, Timestamp(1_700_000_000_000_000_000));
        let name = name.to_str().unwrap();
        assert!(name.starts_with("web_00007_202311") && name.ends_with(".pcapng"), "{name}");
        assert_eq!(name.len(), "web_00007_20231114221320.pcapng".len());
    }

    #[test]
    fn the_suffix_of_compression_is_appended_once() {
        assert_eq!(compressed(OsStr::new("web.pcapng")), "web.pcapng.zst");
        assert_eq!(compressed(OsStr::new("web.pcapng.zst")), "web.pcapng.zst");
    }
}
