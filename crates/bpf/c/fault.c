// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The programs of a fault. `gate_out` and `gate_in` stand at the target's link and decide by an ordered list of rules
// what becomes of a packet: it passes, it is dropped, or it goes into a wire, a veth pair whose private end lies in a
// namespace that only the fault's process holds. `turn` stands at the private end and hands the packet to whatever
// delays and loses there; `back` stands at the public end and puts what comes back where it was taken.
//
// A packet that was put back carries a mark, so that it does not go round again. Gates stand in a chain, the newest
// first, each with a rank that is larger than that of all older ones. A packet with the gate's own rank has been through
// its wire: the mark is cleared and the older gates see it fresh. One with a smaller rank is an older gate's, and passes
// with its mark. One with a larger rank comes from a gate that is gone, and is fresh. Packets lose their mark when they
// cross from one namespace to another (skb_scrub_packet), so that nothing inside a target can forge one.
//
// Where the kernel has no links that take a program off when its process ends, `jump_out` and `jump_in` are filters that
// outlive the process, and all they do is to jump to the gate (a tail call). The table they jump by is emptied by the kernel
// when no process has it open any more (prog_array_map_clear, kernel/bpf/arraymap.c): from then on everything passes.
//
// Headers are read by bpf_skb_load_bytes, also where they are not in the linear part; packets are never changed.

#include "fault.h"
#include "packet.h"

#define NEXT TC_ACT_UNSPEC
#define NO_RULE MAX_RULES
#define LOOPBACK 1

// Filled in by the loader. The verifier knows the values, and leaves out what cannot be reached with them.
const volatile struct rule rules[2][MAX_RULES];
const volatile __u32 rule_total[2];
// Everything that any rule of a direction asks for.
const volatile __u32 asked[2];
const volatile struct wire wires[MAX_WIRES];
const volatile __u32 wire_total;

struct {
    NUMBER(type, BPF_MAP_TYPE_ARRAY);
    NUMBER(max_entries, 1);
    TYPE(key, __u32);
    TYPE(value, struct state);
} states SEC(".maps");

// The gate of each direction, for `jump_out` and `jump_in`.
struct {
    NUMBER(type, BPF_MAP_TYPE_PROG_ARRAY);
    NUMBER(max_entries, 2);
    TYPE(key, __u32);
    TYPE(value, __u32);
} jump_table SEC(".maps");

struct {
    NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    NUMBER(max_entries, 2 * MAX_RULES);
    TYPE(key, __u32);
    TYPE(value, struct count);
} counts SEC(".maps");

struct {
    NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    NUMBER(max_entries, MAX_WIRES);
    TYPE(key, __u32);
    TYPE(value, struct wire_count);
} wire_counts SEC(".maps");

// The networks of all sets, each with a bit for every set that has it, or one around it.
struct key4 {
    __u32 prefix;
    __u32 address;
};

struct key6 {
    __u32 prefix;
    __u32 address[4];
};

struct {
    NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
    NUMBER(max_entries, 1);
    NUMBER(map_flags, BPF_F_NO_PREALLOC);
    TYPE(key, struct key4);
    TYPE(value, __u32);
} networks4 SEC(".maps");

struct {
    NUMBER(type, BPF_MAP_TYPE_LPM_TRIE);
    NUMBER(max_entries, 1);
    NUMBER(map_flags, BPF_F_NO_PREALLOC);
    TYPE(key, struct key6);
    TYPE(value, __u32);
} networks6 SEC(".maps");

// Which rule had the first fragment of a datagram (NO_RULE: none had): the later ones carry no ports and go the same way.
struct {
    NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
    NUMBER(max_entries, 1024);
    TYPE(key, struct datagram);
    TYPE(value, __u32);
} fragments SEC(".maps");

// When a packet, known by its fingerprint, entered a wire: monotonic nanoseconds.
struct {
    NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
    NUMBER(max_entries, 1);
    TYPE(key, __u64);
    TYPE(value, __u64);
} stamps SEC(".maps");

// The sets that the peer is in.
INLINE __u32 sets_of(const struct packet *packet) {
    __u32 *sets = 0;
    if (packet->family == 4) {
        struct key4 key = {.prefix = 32, .address = packet->peer[0]};
        sets = lookup(&networks4, &key);
    } else if (packet->family == 6) {
        struct key6 key = {
            .prefix = 128,
            .address = {packet->peer[0], packet->peer[1], packet->peer[2], packet->peer[3]},
        };
        sets = lookup(&networks6, &key);
    }
    return sets ? *sets : 0;
}

INLINE int matches(const volatile struct rule *rule, const struct packet *packet, __u32 sets) {
    __u32 asks = rule->asks;
    if (!asks)
        return 1;
    if (!packet->family)
        return 0;
    if ((asks & ASKS_PROTOCOL) && rule->protocol != packet->protocol)
        return 0;
    if ((asks & ASKS_PEER_PORT) && (!packet->ports || rule->peer_port != packet->peer_port))
        return 0;
    if ((asks & ASKS_OWN_PORT) && (!packet->ports || rule->own_port != packet->own_port))
        return 0;
    if ((asks & ASKS_OPENING) && !packet->opening)
        return 0;
    return !(asks & ASKS_PEERS) || sets >> (rule->set & 31) & 1;
}

INLINE __u32 first_match(const struct packet *packet, const __u32 direction) {
    // One look for all rules.
    __u32 sets = asked[direction] & ASKS_PEERS ? sets_of(packet) : 0;
    for (__u32 i = 0; i < MAX_RULES; i++) {
        if (i >= rule_total[direction])
            break;
        if (matches(&rules[direction][i], packet, sets))
            return i;
    }
    return NO_RULE;
}

// The number of the rule that has the packet.
INLINE __u32 judge(struct __sk_buff *skb, const __u32 direction) {
    struct packet packet = {};
    if (asked[direction])
        parse(skb, direction, asked[direction], &packet);
    if (packet.fragment == LATER_FRAGMENT) {
        __u32 *known = lookup(&fragments, &packet.datagram);
        if (known)
            return *known;
    }
    __u32 number = first_match(&packet, direction);
    if (packet.fragment == FIRST_FRAGMENT)
        update(&fragments, &packet.datagram, &number, BPF_ANY);
    return number;
}

// How many packets a super-packet is on the wire.
INLINE __u64 segments(const struct __sk_buff *skb) {
    __u32 segments = skb->gso_segs, size = skb->gso_size;
    if (segments)
        return segments;
    // A sender that is not trusted does not say how many.
    return size ? (skb->len + size - 1) / size : 1;
}

INLINE int gate(struct __sk_buff *skb, const __u32 direction) {
    __u32 zero = 0, mark = skb->mark;
    struct state *state = lookup(&states, &zero);
    if (!state)
        return NEXT;
    if ((mark & MARK_KIND) == MARK) {
        __s16 newer = (__s16)((mark & MARK_RANK) - state->rank[direction]);
        if (newer < 0)
            return NEXT;
        skb->mark = 0;
        if (newer == 0)
            return NEXT;
    }
    if (!state->armed || !rule_total[direction])
        return NEXT;
    __u32 number = judge(skb, direction);
    // Nobody attaches a gate to a loopback, and it is the one that BPF_PROG_TEST_RUN pretends.
    int probe = mark == PROBE && skb->ifindex == LOOPBACK;
    if (probe)
        skb->mark = (PROBE & MARK_KIND) | number;
    if (number >= MAX_RULES)
        return NEXT;
    if (!probe) {
        __u32 index = direction * MAX_RULES + number;
        struct count *count = lookup(&counts, &index);
        if (count) {
            count->packets += segments(skb);
            count->bytes += skb->len;
        }
    }
    __u8 verdict = rules[direction][number].verdict;
    if (verdict == VERDICT_DROP)
        return TC_ACT_SHOT;
    if (verdict == VERDICT_PASS)
        return NEXT;
    __u32 wire = rules[direction][number].wire;
    if (wire >= MAX_WIRES)
        return TC_ACT_SHOT;
    // A packet that arrives here, and is a single one, comes out of the private end at once.
    if (state->back[direction] == BPF_F_INGRESS && !skb->gso_size)
        return redirect_peer(wires[wire].public, 0);
    // The public end cuts it first.
    return redirect(wires[wire].public, 0);
}

SEC("classifier")
int gate_out(struct __sk_buff *skb) {
    return gate(skb, OUT);
}

SEC("classifier")
int gate_in(struct __sk_buff *skb) {
    return gate(skb, IN);
}

INLINE int jump(struct __sk_buff *skb, const __u32 direction) {
    tail_call(skb, &jump_table, direction);
    // There is nothing to jump to: nobody holds the gate any more.
    return NEXT;
}

SEC("classifier")
int jump_out(struct __sk_buff *skb) {
    return jump(skb, OUT);
}

SEC("classifier")
int jump_in(struct __sk_buff *skb) {
    return jump(skb, IN);
}

// A number that tells a packet from others of its wire: its length and its first bytes after the Ethernet header. Two
// that are the same in these have the same number, and only the first of them is stamped.
//
// What may change on the way does not count. A check sum is left to whoever needs it. TCP segments may be joined, by receive
// offload, and by whoever queues them: the first of them keeps all but the length, the sums and PSH.
INLINE __u64 fingerprint(struct __sk_buff *skb, __u32 wire) {
    union {
        __u64 words[12];
        __u8 bytes[96];
    } head = {};
    __u32 length = skb->len - ETH_HLEN;
    if (length > sizeof(head))
        length = sizeof(head);
    // One comparison is to bound it on both sides, and the compiler is not to know better: kernels before 6.13 lose a bound
    // that was found of another register.
    __u32 last = length - 1;
    asm volatile("" : "+r"(last));
    if (last < sizeof(head))
        load_bytes(skb, ETH_HLEN, head.bytes, last + 1);
    // An IPv4 header with options is of no version that is known here.
    __u8 version = head.bytes[0] == 0x45 ? 4 : head.bytes[0] >> 4 == 6 ? 6 : 0;
    __u8 protocol = version == 4 ? head.bytes[9] : version == 6 ? head.bytes[6] : 0;
    __u64 hash = wire | (protocol == IPPROTO_TCP ? 0 : (__u64)skb->len << 8);
    if (version == 4 && protocol == IPPROTO_TCP) {
        head.bytes[2] = head.bytes[3] = 0;
        head.bytes[10] = head.bytes[11] = 0;
        head.bytes[33] &= ~TCP_PSH;
        head.bytes[36] = head.bytes[37] = 0;
    } else if (version == 6 && protocol == IPPROTO_TCP) {
        head.bytes[4] = head.bytes[5] = 0;
        head.bytes[53] &= ~TCP_PSH;
        head.bytes[56] = head.bytes[57] = 0;
    } else if (version == 4 && protocol == IPPROTO_UDP) {
        head.bytes[26] = head.bytes[27] = 0;
    } else if (version == 6 && protocol == IPPROTO_UDP) {
        head.bytes[46] = head.bytes[47] = 0;
    }
    hash *= 0x9e3779b97f4a7c15;
    for (int i = 0; i < 12; i++) {
        hash = (hash ^ head.words[i]) * 0x9e3779b97f4a7c15;
        hash ^= hash >> 32;
    }
    return hash;
}

// One packet in sixty-four is stamped, and one that comes in another tick of the clock than the last one that was.
INLINE void stamp(struct __sk_buff *skb, __u32 wire, struct wire_count *count, __u64 before) {
    __u64 tick = ticks();
    if (before >> 6 == count->entered >> 6 && tick == count->stamped)
        return;
    count->stamped = tick;
    __u64 now = monotonic(), print = fingerprint(skb, wire);
    update(&stamps, &print, &now, BPF_NOEXIST);
}

// How many bits a number has, at most HISTOGRAM - 1. Without branches: each of them doubles what the verifier has to walk.
INLINE __u32 bucket(__u64 value) {
    __u32 bits = value < 0x7fffffff ? value : 0x7fffffff;
    bits |= bits >> 1;
    bits |= bits >> 2;
    bits |= bits >> 4;
    bits |= bits >> 8;
    bits |= bits >> 16;
    // Now as many ones as there are bits; they are added up by pairs, fours and bytes.
    bits -= (bits >> 1) & 0x55555555;
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f;
    return (bits * 0x01010101) >> 24;
}

INLINE void measure(struct __sk_buff *skb, __u32 wire, struct wire_count *count) {
    __u64 print = fingerprint(skb, wire);
    __u64 *stamped = lookup(&stamps, &print);
    if (!stamped)
        return;
    __u64 delay = (monotonic() - *stamped + 500) / 1000;
    // Of two that came back at the same time one has it.
    if (erase(&stamps, &print))
        return;
    if (!count->samples || delay < count->min)
        count->min = delay;
    if (delay > count->max)
        count->max = delay;
    count->samples++;
    count->sum += delay;
    count->squares += delay * delay;
    count->histogram[bucket(delay) & (HISTOGRAM - 1)]++;
}

SEC("classifier")
int turn(struct __sk_buff *skb) {
    for (__u32 i = 0; i < MAX_WIRES; i++) {
        if (i >= wire_total)
            break;
        // The verifier knows a place in the table as long as it stays a pointer, and a number only as long as nobody has its
        // address.
        const volatile struct wire *wire = &wires[i];
        if (wire->private != skb->ifindex)
            continue;
        __u32 key = i;
        struct wire_count *count = lookup(&wire_counts, &key);
        if (!count)
            break;
        __u64 before = count->entered;
        count->entered = before + segments(skb);
        stamp(skb, i, count, before);
        // A packet socket has its copy by now: taps come before this program.
        if (!wire->kernel_queue)
            return TC_ACT_SHOT;
        // Whoever has found its check sum right (a network card, another wire's receive offload) has said so, and what is
        // damaged from here on would be believed for that.
        csum_level(skb, BPF_CSUM_LEVEL_RESET);
        return redirect(wire->private, 0);
    }
    return TC_ACT_SHOT;
}

SEC("classifier")
int back(struct __sk_buff *skb) {
    __u32 zero = 0;
    struct state *state = lookup(&states, &zero);
    if (!state)
        return TC_ACT_SHOT;
    for (__u32 i = 0; i < MAX_WIRES; i++) {
        if (i >= wire_total)
            break;
        const volatile struct wire *wire = &wires[i];
        if (wire->public != skb->ifindex)
            continue;
        __u32 key = i;
        struct wire_count *count = lookup(&wire_counts, &key);
        if (!count)
            break;
        count->returned += segments(skb);
        measure(skb, i, count);
        __u32 direction = wire->direction & 1;
        skb->mark = MARK | (state->rank[direction] & MARK_RANK);
        return redirect(state->link, state->back[direction]);
    }
    return TC_ACT_SHOT;
}

const char LICENSE[] SEC("license") = "Dual MIT/GPL";
