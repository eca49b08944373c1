//! The features of the kernel: what each is for, what is lost without it, how to get it.
//!
//! A feature is added here, in one place; how it is tried stands in the module that `run` names.

use snorkel_bpf::{Kind as BtfKind, probe};
use snorkel_rtnl::Qdisc;

use super::links::{self, Kind};
use super::status::Status;
use super::trial::{Ground, Outcome, Trial, bpf};
use super::{Finding, Verdict, faults, features, mounts, nft};

/// Tries every feature.
pub(super) fn examine(status: &Status) -> Vec<Finding> {
    let ground = Ground::new(status);
    TRIALS.iter().map(|trial| trial.finding(&ground)).collect()
}

/// What most trials have in common.
const COMMON: Trial = Trial {
    id: "",
    subject: "",
    core: false,
    without: Verdict::Missing,
    lost: "",
    remedy: "",
    run: |_| Outcome::CannotAsk(String::new()),
};

/// 100 Mbit/s. The burst is more than the loopback's largest packet, or the kernel grumbles in its log.
const TBF: Qdisc = Qdisc::Tbf { rate: 12_500_000, burst: 200_000, limit: 1_000_000 };

const TRIALS: &[Trial] = &[
    Trial {
        id: "pidfd",
        subject: "pidfd_open",
        core: true,
        lost: "a container that ended cannot be told from another process that got its PID",
        remedy: "a kernel from 5.3 on",
        run: features::pidfd,
        ..COMMON
    },
    Trial {
        id: "setns-pidfd",
        subject: "setns by pidfd",
        core: true,
        lost: "no command can be run in a container's network",
        remedy: "a kernel from 5.8 on",
        run: features::setns,
        ..COMMON
    },
    Trial {
        id: "netns-private",
        subject: "network namespaces",
        core: true,
        lost: "no lab, no wire for faults; network features cannot be tried",
        remedy: "a kernel with CONFIG_NET_NS",
        run: features::netns,
        ..COMMON
    },
    Trial {
        id: "mount-namespace",
        subject: "mount namespaces",
        core: true,
        lost: "a command in a container's network sees the host's resolv.conf, hosts and /sys",
        remedy: "let this process make mount namespaces (in a container: without its seccomp profile)",
        run: mounts::namespace,
        ..COMMON
    },
    Trial {
        id: "netns-cookie",
        subject: "SO_NETNS_COOKIE",
        without: Verdict::Degraded,
        lost: "a namespace is known by its inode alone, which is used again after it is gone",
        remedy: "a kernel from 5.14 on",
        run: features::cookie,
        ..COMMON
    },
    Trial {
        id: "rtnetlink",
        subject: "rtnetlink",
        core: true,
        lost: "links, addresses and routes cannot be read",
        remedy: "let this process open netlink sockets (a seccomp profile may forbid it)",
        run: links::rtnetlink,
        ..COMMON
    },
    Trial {
        id: "target-netnsid",
        subject: "IFLA_TARGET_NETNSID",
        without: Verdict::Degraded,
        lost: "each namespace is read through a socket made inside it, which is slower",
        remedy: "a kernel from 4.20 on",
        run: links::target_netnsid,
        ..COMMON
    },
    Trial {
        id: "openat2",
        subject: "openat2",
        lost: "a container's files cannot be read safely, so names do not resolve as it does",
        remedy: "a kernel from 5.6 on; in a container, an engine whose seccomp profile knows openat2",
        run: features::openat2_in_root,
        ..COMMON
    },
    Trial {
        id: "overlay",
        subject: "overlayfs",
        without: Verdict::Degraded,
        lost: "a tmpfs stands in for /etc: of the host's files there, a command can read all and write none",
        remedy: "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS",
        run: mounts::overlay,
        ..COMMON
    },
    Trial {
        id: "sysfs-netns",
        subject: "sysfs of a namespace",
        without: Verdict::Degraded,
        lost: "tools that read /sys/class/net see the host's interfaces",
        remedy: "run snorkel in the machine's first user namespace, with its own /sys fully visible",
        run: mounts::sysfs,
        ..COMMON
    },
    Trial {
        id: "open-tree",
        subject: "open_tree, move_mount",
        without: Verdict::Degraded,
        lost: "under a new /sys the mounts for cgroup, bpf and tracing are missing",
        remedy: "a kernel from 5.2 on",
        run: mounts::open_tree_move,
        ..COMMON
    },
    Trial {
        id: "link-veth",
        subject: "veth links",
        lost: "no lab, and no wire to impair packets in",
        remedy: "modprobe veth, or a kernel with CONFIG_VETH",
        run: |ground| links::link(ground, Kind::Veth),
        ..COMMON
    },
    Trial {
        id: "link-bridge",
        subject: "bridge links",
        lost: "no lab: its containers share a bridge",
        remedy: "modprobe bridge, or a kernel with CONFIG_BRIDGE",
        run: |ground| links::link(ground, Kind::Bridge),
        ..COMMON
    },
    Trial {
        id: "link-macvlan",
        subject: "macvlan links",
        without: Verdict::Absent,
        lost: "no container here can have such a link; snorkel needs none itself",
        remedy: "modprobe macvlan, or a kernel with CONFIG_MACVLAN",
        run: |ground| links::link(ground, Kind::Macvlan),
        ..COMMON
    },
    Trial {
        id: "link-ipvlan",
        subject: "ipvlan links",
        without: Verdict::Absent,
        lost: "no container here can have such a link; snorkel needs none itself",
        remedy: "modprobe ipvlan, or a kernel with CONFIG_IPVLAN",
        run: |ground| links::link(ground, Kind::Ipvlan),
        ..COMMON
    },
    Trial {
        id: "link-ifb",
        subject: "ifb links",
        without: Verdict::Absent,
        lost: "nothing: impairments run on a wire of snorkel's own",
        remedy: "modprobe ifb, or a kernel with CONFIG_IFB",
        run: |ground| links::link(ground, Kind::Ifb),
        ..COMMON
    },
    Trial {
        id: "link-vxlan",
        subject: "vxlan links",
        without: Verdict::Absent,
        lost: "no overlay network can end here; snorkel needs none itself",
        remedy: "modprobe vxlan, or a kernel with CONFIG_VXLAN",
        run: |ground| links::link(ground, Kind::Vxlan),
        ..COMMON
    },
    Trial {
        id: "nftables-owner",
        subject: "nftables with owner",
        lost: "what a container opens to others cannot be tapped (tap --to), since the rule would not go with snorkel",
        remedy: "a kernel from 5.12 on with CONFIG_NF_TABLES (modprobe nf_tables)",
        run: nft::owner,
        ..COMMON
    },
    Trial {
        id: "qdisc-netem",
        subject: "netem qdisc",
        without: Verdict::Degraded,
        lost: "impairments are scheduled by snorkel itself, at a higher cost for each packet",
        remedy: "modprobe sch_netem (on Fedora and its kin: install kernel-modules-extra)",
        run: |ground| links::qdisc(ground, Qdisc::Netem { limit: 1000 }),
        ..COMMON
    },
    Trial {
        id: "qdisc-tbf",
        subject: "tbf qdisc",
        without: Verdict::Degraded,
        lost: "rates are kept by snorkel itself, at a higher cost for each packet",
        remedy: "modprobe sch_tbf, or a kernel with CONFIG_NET_SCH_TBF",
        run: |ground| links::qdisc(ground, TBF),
        ..COMMON
    },
    Trial {
        id: "qdisc-clsact",
        subject: "clsact qdisc",
        without: Verdict::Degraded,
        lost: "on a kernel without tcx, faults have no place to be attached; on others, impairments begin later",
        remedy: "modprobe sch_ingress, or a kernel with CONFIG_NET_SCH_INGRESS",
        run: |ground| links::qdisc(ground, Qdisc::Clsact),
        ..COMMON
    },
    Trial {
        id: "fault-filters",
        subject: "faults by filters",
        without: Verdict::Degraded,
        lost: "on a kernel without tcx, nothing can be cut by packets, blocked or impaired; on others, impairments begin \
               later",
        remedy: "modprobe cls_bpf, or a kernel with CONFIG_NET_CLS_BPF",
        run: faults::filters,
        ..COMMON
    },
    Trial {
        id: "fault-programs",
        subject: "faults' programs",
        lost: "nothing can be blocked, parted or impaired, or cut but by its cable",
        remedy: "a kernel from 6.6 on with CONFIG_BPF_SYSCALL, or from 5.8 on with CONFIG_NET_CLS_BPF too",
        run: faults::gate,
        ..COMMON
    },
    Trial {
        id: "fault-journal",
        subject: "faults' journal",
        lost: "no cable can be taken out, and before Linux 6.6 no fault made: nobody could clean up after one that was killed",
        remedy: "mount -t tmpfs tmpfs /run; or name another place of root's in SNORKEL_RUN",
        run: faults::journal,
        ..COMMON
    },
    Trial {
        id: "tcx",
        subject: "tcx",
        without: Verdict::Degraded,
        lost: "faults are clsact filters: after SIGKILL they do nothing, but a second process has to sweep them away",
        remedy: "a kernel from 6.6 on",
        run: |_| bpf(probe::tcx(), "a program can be attached by a link"),
        ..COMMON
    },
    Trial {
        id: "sk-lookup",
        subject: "sk_lookup",
        lost: "a tap cannot take over new connections of a port",
        remedy: "a kernel from 5.9 on with CONFIG_BPF_SYSCALL and CONFIG_INET",
        run: |_| bpf(probe::sk_lookup(), "a program can be attached to a namespace by a link"),
        ..COMMON
    },
    Trial {
        id: "btf",
        subject: "BTF",
        without: Verdict::Degraded,
        lost: "the layout of kernel structures is not known: dropped packets are traced with fewer details",
        remedy: "a kernel with CONFIG_DEBUG_INFO_BTF",
        run: |_| bpf(probe::btf(), "the kernel's type information is readable"),
        ..COMMON
    },
    Trial {
        id: "tp-btf",
        subject: "tp_btf on kfree_skb",
        without: Verdict::Degraded,
        lost: "dropped packets are traced with fewer details",
        remedy: "a kernel from 5.5 on with CONFIG_DEBUG_INFO_BTF and CONFIG_BPF_JIT",
        run: |_| bpf(probe::tp_btf("kfree_skb"), "a program for it is accepted"),
        ..COMMON
    },
    Trial {
        id: "drop-reasons",
        subject: "drop reasons",
        without: Verdict::Degraded,
        lost: "where a packet was dropped is shown, but not why",
        remedy: "a kernel from 5.17 on",
        run: |_| {
            bpf(probe::btf_type(BtfKind::Enum, "skb_drop_reason"), "the kernel names why it drops packets")
        },
        ..COMMON
    },
    Trial {
        id: "raw-tracepoint",
        subject: "raw tracepoints",
        lost: "packets that the kernel drops cannot be traced",
        remedy: "a kernel with CONFIG_BPF_EVENTS (needs CONFIG_KPROBE_EVENTS or CONFIG_UPROBE_EVENTS)",
        run: |_| bpf(probe::raw_tracepoint(), "programs can be attached"),
        ..COMMON
    },
    Trial {
        id: "af-packet",
        subject: "AF_PACKET",
        lost: "packets cannot be captured, and not be impaired where netem is missing",
        remedy: "modprobe af_packet, or a kernel with CONFIG_PACKET",
        run: features::af_packet,
        ..COMMON
    },
    Trial {
        id: "af-xdp",
        subject: "AF_XDP",
        without: Verdict::Absent,
        lost: "nothing: packets are captured with AF_PACKET",
        remedy: "a kernel with CONFIG_XDP_SOCKETS",
        run: features::af_xdp,
        ..COMMON
    },
    Trial {
        id: "inotify",
        subject: "inotify",
        without: Verdict::Degraded,
        lost: "`ls --watch` does not notice new named namespaces by itself",
        remedy: "a kernel with CONFIG_INOTIFY_USER; or raise fs.inotify.max_user_instances",
        run: features::inotify,
        ..COMMON
    },
    Trial {
        id: "cgroup",
        subject: "control groups",
        without: Verdict::Degraded,
        lost: "namespaces that no engine owns are named after a process instead of their control group",
        remedy: "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        run: features::cgroup,
        ..COMMON
    },
    Trial {
        id: "landlock",
        subject: "Landlock",
        without: Verdict::Absent,
        lost: "commands that read packets from outside cannot bar themselves from files",
        remedy: "a kernel from 5.13 on, with landlock in its list of security modules (lsm=)",
        run: features::landlock,
        ..COMMON
    },
    Trial {
        id: "seccomp-filter",
        subject: "seccomp filters",
        without: Verdict::Absent,
        lost: "commands that read packets from outside cannot bar themselves from system calls",
        remedy: "a kernel with CONFIG_SECCOMP_FILTER",
        run: features::seccomp,
        ..COMMON
    },
];
