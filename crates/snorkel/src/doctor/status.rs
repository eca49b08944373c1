//! What /proc says of the calling thread's rights (`/proc/thread-self/status`, proc_pid_status(5)).

use std::fmt;

/// The capabilities that snorkel has a use for, by their numbers in linux/capability.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Capability {
    DacOverride = 1,
    DacReadSearch = 2,
    Setgid = 6,
    Setuid = 7,
    NetAdmin = 12,
    NetRaw = 13,
    SysPtrace = 19,
    SysAdmin = 21,
    SysResource = 24,
    Perfmon = 38,
    Bpf = 39,
}

/// A set of capabilities, as the hexadecimal masks of the status file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities(u64);

impl Capabilities {
    pub(super) fn has(self, capability: Capability) -> bool {
        self.0 & (1 << capability as u8) != 0
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The lines of the status file that matter here; what is not there or cannot be understood is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Status {
    /// `CapEff`.
    pub(super) effective: Option<Capabilities>,
    /// `CapBnd`.
    pub(super) bounding: Option<Capabilities>,
    /// The second number of `Uid`: the effective user.
    pub(super) uid: Option<u32>,
    /// `NoNewPrivs`.
    pub(super) no_new_privs: Option<bool>,
    /// `Seccomp`: 0 none, 1 strict, 2 filter.
    pub(super) seccomp: Option<u8>,
}

impl Status {
    /// That of the calling thread; empty where there is no /proc.
    pub(super) fn read() -> Status {
        std::fs::read("/proc/thread-self/status").map(|bytes| Status::parse(&bytes)).unwrap_or_default()
    }

    /// Whether the effective set has it; `false` also when the set is not known.
    pub(super) fn has(&self, capability: Capability) -> bool {
        self.effective.is_some_and(|set| set.has(capability))
    }

    fn parse(bytes: &[u8]) -> Status {
        let text = String::from_utf8_lossy(bytes);
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
        };
        let set = |key| u64::from_str_radix(value(key)?, 16).ok().map(Capabilities);
        Status {
            effective: set("CapEff"),
            bounding: set("CapBnd"),
            uid: value("Uid").and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()),
            no_new_privs: value("NoNewPrivs").map(|v| v != "0"),
            seccomp: value("Seccomp").and_then(|v| v.parse().ok()),
        }
    }
}

#[cfg(test)]
impl Status {
    /// The status of a user that has these capabilities and can get no others.
    pub(super) fn for_test(mask: u64, uid: u32) -> Status {
        let set = Some(Capabilities(mask));
        Status { effective: set, bounding: set, uid: Some(uid), no_new_privs: Some(false), seccomp: Some(0) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROOT_WITHOUT_SYS_RESOURCE: &[u8] = b"Name:\tcat\nUid:\t1000\t0\t0\t0\nCapInh:\t0000000000000000\n\
        CapPrm:\t000001fffeffffff\nCapEff:\t000001fffeffffff\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t0\n\
        Seccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn reads_the_lines_that_matter() {
        let status = Status::parse(ROOT_WITHOUT_SYS_RESOURCE);
        assert_eq!(status.uid, Some(0));
        assert_eq!(status.seccomp, Some(2));
        assert_eq!(status.no_new_privs, Some(false));
        assert!(status.has(Capability::SysAdmin));
        assert!(status.has(Capability::Bpf));
        assert!(!status.has(Capability::SysResource));
        assert!(status.bounding.unwrap().has(Capability::SysResource));
    }

    #[test]
    fn a_line_that_is_missing_or_odd_is_not_known() {
        let status = Status::parse(b"CapEff:\tnot hex\nUid:\t\nSeccomp:\t999\n");
        assert_eq!(status, Status::default());
        assert!(!status.has(Capability::SysAdmin));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Status::parse(&bytes);
        }

        #[test]
        fn every_mask_reads_back(mask: u64) {
            let status = Status::parse(format!("CapEff:\t{mask:016x}\n").as_bytes());
            prop_assert_eq!(status.effective, Some(Capabilities(mask)));
            prop_assert_eq!(status.effective.unwrap().to_string(), format!("{mask:016x}"));
        }
    }
}
