//! The capabilities that snorkel has a use for: what each is for, what is lost without it, how to get it.

use super::status::{Capability, Status};
use super::{Finding, Verdict};

/// Looks for each in the effective set.
pub(super) fn examine(status: &Status) -> Vec<Finding> {
    CAPABILITIES.iter().map(|wanted| wanted.finding(status)).collect()
}

/// A capability and what it is wanted for.
struct Wanted {
    id: &'static str,
    name: &'static str,
    capability: Capability,
    /// CAP_SYS_ADMIN was split: who has it has this one too (capabilities(7)).
    in_sys_admin: bool,
    without: Verdict,
    lost: &'static str,
}

const CAPABILITIES: &[Wanted] = &[
    Wanted {
        id: "cap-sys-admin",
        name: "CAP_SYS_ADMIN",
        capability: Capability::SysAdmin,
        in_sys_admin: false,
        without: Verdict::Missing,
        lost: "no container's network can be entered or looked into, but those of rootless engines of one's own",
    },
    Wanted {
        id: "cap-net-admin",
        name: "CAP_NET_ADMIN",
        capability: Capability::NetAdmin,
        in_sys_admin: false,
        without: Verdict::Missing,
        lost: "no lab, no faults, no tap; each namespace has to be read from inside, which is slower",
    },
    Wanted {
        id: "cap-net-raw",
        name: "CAP_NET_RAW",
        capability: Capability::NetRaw,
        in_sys_admin: false,
        without: Verdict::Missing,
        lost: "packets cannot be captured; ping and tcpdump run inside get no raw socket",
    },
    Wanted {
        id: "cap-sys-ptrace",
        name: "CAP_SYS_PTRACE",
        capability: Capability::SysPtrace,
        in_sys_admin: false,
        without: Verdict::Degraded,
        lost: "the namespaces of processes of other users or with more rights are not seen",
    },
    Wanted {
        id: "cap-bpf",
        name: "CAP_BPF",
        capability: Capability::Bpf,
        in_sys_admin: true,
        without: Verdict::Missing,
        lost: "no bpf programs: no faults, no tap, no trace of dropped packets",
    },
    Wanted {
        id: "cap-perfmon",
        name: "CAP_PERFMON",
        capability: Capability::Perfmon,
        in_sys_admin: true,
        without: Verdict::Missing,
        lost: "packets that the kernel drops cannot be traced",
    },
    Wanted {
        id: "cap-dac-override",
        name: "CAP_DAC_OVERRIDE",
        capability: Capability::DacOverride,
        in_sys_admin: false,
        without: Verdict::Degraded,
        lost: "the engines' sockets of other users (rootless containers) cannot be used",
    },
    Wanted {
        id: "cap-dac-read-search",
        name: "CAP_DAC_READ_SEARCH",
        capability: Capability::DacReadSearch,
        in_sys_admin: false,
        without: Verdict::Degraded,
        lost: "a container's resolv.conf and hosts may be out of reach below directories of other users",
    },
    Wanted {
        id: "cap-sys-resource",
        name: "CAP_SYS_RESOURCE",
        capability: Capability::SysResource,
        in_sys_admin: false,
        without: Verdict::Degraded,
        lost: "limits cannot be raised above their hard value: very many namespaces at once run out of files",
    },
    Wanted {
        id: "cap-setuid",
        name: "CAP_SETUID",
        capability: Capability::Setuid,
        in_sys_admin: false,
        without: Verdict::Degraded,
        lost: "`exec -u` cannot run a command as another user",
    },
    Wanted {
        id: "cap-setgid",
        name: "CAP_SETGID",
        capability: Capability::Setgid,
        in_sys_admin: false,
        without: Verdict::Degraded,
        lost: "`exec -u` cannot run a command with another user's groups",
    },
];

impl Wanted {
    fn finding(&self, status: &Status) -> Finding {
        let core = self.capability == Capability::SysAdmin;
        let of = |verdict, found: &str, remedy: String| Finding {
            core,
            ..Finding::of_rights(self.id, self.name, verdict, found, self.lost, &remedy)
        };
        if status.effective.is_none() {
            return of(Verdict::Unknown, "/proc does not say", "mount /proc".into());
        }
        if status.has(self.capability) {
            return of(Verdict::Ok, "in the effective set", String::new());
        }
        if self.in_sys_admin && status.has(Capability::SysAdmin) {
            return of(
                Verdict::Ok,
                "not in the effective set, but CAP_SYS_ADMIN stands for it",
                String::new(),
            );
        }
        let (name, small) = (self.name, self.name.trim_start_matches("CAP_"));
        match status.uid {
            // Root that lacks it had it taken away.
            Some(0) if status.bounding.is_some_and(|set| !set.has(self.capability)) => of(
                self.without,
                "not in the effective set, and out of the bounding set",
                format!(
                    "give it where this shell was started: --cap-add {small}, or {name} in systemd's \
                     CapabilityBoundingSet="
                ),
            ),
            Some(0) => of(self.without, "not in the effective set", format!("start snorkel with {name}")),
            _ => of(self.without, "not in the effective set", "run as root: sudo snorkel …".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_split_capabilities_are_there_with_sys_admin() {
        let wanted = CAPABILITIES.iter().find(|wanted| wanted.id == "cap-bpf").unwrap();
        let status = |mask: u64| Status::for_test(mask, 0);
        assert_eq!(wanted.finding(&status(1 << 21)).verdict, Verdict::Ok);
        assert_eq!(wanted.finding(&status(1 << 39)).verdict, Verdict::Ok);
        assert_eq!(wanted.finding(&status(0)).verdict, Verdict::Missing);
        let unknown = wanted.finding(&Status::default());
        assert_eq!(unknown.verdict, Verdict::Unknown);
    }

    #[test]
    fn root_and_others_are_told_different_remedies() {
        let wanted = &CAPABILITIES[0];
        assert!(wanted.finding(&Status::for_test(0, 0)).remedy.contains("--cap-add SYS_ADMIN"));
        assert!(wanted.finding(&Status::for_test(0, 1000)).remedy.contains("sudo"));
    }
}
