/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the programs of fault.c share with their loader (src/gate/layout.rs): sizes, marks and layouts. No structure has
 * padding.
 */
#ifndef SNORKEL_FAULT_H
#define SNORKEL_FAULT_H

#include <linux/types.h>

/* Seen from the target. */
#define OUT 0
#define IN 1

#define MAX_RULES 16
#define MAX_WIRES 16
#define HISTOGRAM 32

/* The upper half of the mark of a packet that comes back from a wire; the lower half is its gate's rank. */
#define MARK 0x534e0000
/* The mark of a packet of BPF_PROG_TEST_RUN: decide, count nothing, and put the number of the rule (MAX_RULES: none) into
   the lower half. */
#define PROBE 0x534fffff
#define MARK_KIND 0xffff0000
#define MARK_RANK 0x0000ffff

/* What a rule asks for. */
#define ASKS_PEERS 1
#define ASKS_PROTOCOL 2
#define ASKS_PEER_PORT 4
#define ASKS_OWN_PORT 8
#define ASKS_OPENING 16

#define VERDICT_PASS 0
#define VERDICT_DROP 1
#define VERDICT_WIRE 2

struct rule {
    __u8 asks;
    __u8 verdict;
    __u8 wire;
    /* TCP, UDP, or IPPROTO_ICMP for both kinds of ICMP. */
    __u8 protocol;
    __u16 peer_port;
    __u16 own_port;
    /* Which set of networks the peer has to be in: one of 32. */
    __u32 set;
};

struct wire {
    __u32 public;
    __u32 private;
    /* Where packets are put back: OUT or IN. */
    __u32 direction;
    /* 1: a queueing discipline of the private end has the packets; 0: a packet socket there. */
    __u32 kernel_queue;
};

/* What is known only when the gate is attached, or changes while it is. */
struct state {
    /* The attach point. */
    __u32 link;
    /* 1: rules count. 0: everything passes. */
    __u32 armed;
    /* The place in the chain of each direction; newer is larger. */
    __u32 rank[2];
    /* The flags of bpf_redirect() that put a packet back. */
    __u32 back[2];
};

struct count {
    __u64 packets;
    __u64 bytes;
};

/* All times are microseconds. */
struct wire_count {
    __u64 entered;
    __u64 returned;
    /* The tick of the kernel's clock in which a packet was last stamped. */
    __u64 stamped;
    __u64 samples;
    __u64 sum;
    __u64 squares;
    __u64 min;
    __u64 max;
    /* Bucket n: below 2^n, and not in a smaller one. */
    __u64 histogram[HISTOGRAM];
};

#endif
