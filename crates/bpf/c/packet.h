/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What a rule can ask of a packet, read from its headers: Ethernet, up to two VLAN tags, IPv4 with options, IPv6 with up
 * to eight extension headers, fragments, ports and TCP's flags (RFC 791, 768, 9293, 8200; IEEE 802.1Q).
 */
#ifndef SNORKEL_PACKET_H
#define SNORKEL_PACKET_H

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>

#include "fault.h"
#include "kernel.h"

#define MAX_TAGS 2
#define MAX_EXTENSIONS 8

#define NO_FRAGMENT 0
#define FIRST_FRAGMENT 1
#define LATER_FRAGMENT 2

#define TCP_SYN 0x02
#define TCP_PSH 0x08
#define TCP_ACK 0x10

/* What the fragments of one datagram have in common. An IPv4 address is the first word, the others are 0. */
struct datagram {
    __u32 source[4];
    __u32 destination[4];
    __u32 id;
    __u8 protocol;
    __u8 family;
    __u8 direction;
    __u8 zero;
};

struct packet {
    /* 4, 6, or 0 for what is not IP. */
    __u8 family;
    /* IPPROTO_ICMP also for ICMPv6. */
    __u8 protocol;
    /* Whether the ports are known. */
    __u8 ports;
    /* A TCP segment with SYN and without ACK. */
    __u8 opening;
    __u16 peer_port;
    __u16 own_port;
    __u32 fragment;
    /* As on the wire. */
    __u32 peer[4];
    struct datagram datagram;
};

struct ipv4 {
    __u8 version_length;
    __u8 tos;
    __u16 length;
    __u16 id;
    __u16 fragment;
    __u8 ttl;
    __u8 protocol;
    __u16 checksum;
    __u32 source;
    __u32 destination;
};

struct ipv6 {
    __u32 version_class_flow;
    __u16 length;
    __u8 next;
    __u8 hops;
    __u32 source[4];
    __u32 destination[4];
};

struct extension {
    __u8 next;
    /* In units of eight bytes beyond the first; in units of four beyond the first two, of the authentication header. */
    __u8 length;
    /* Of the fragment header: offset in units of eight bytes, and whether more follow. */
    __u16 offset;
    __u32 id;
};

INLINE void copy16(__u32 *to, const __u32 *from) {
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
}

INLINE int is_tag(__u16 type) {
    return type == from_wire16(ETH_P_8021Q) || type == from_wire16(ETH_P_8021AD);
}

/* Ports and flags, if anything of them is asked for. */
INLINE void parse_transport(struct __sk_buff *skb, __u32 at, __u8 protocol, __u32 direction, __u32 asks, struct packet *packet) {
    struct {
        __u16 source, destination;
        __u16 rest[5];
    } header = {};
    if (!(asks & (ASKS_PEER_PORT | ASKS_OWN_PORT | ASKS_OPENING)))
        return;
    if (protocol == IPPROTO_TCP) {
        if (load_bytes(skb, at, &header, 14))
            return;
        __u8 flags = from_wire16(header.rest[4]);
        packet->opening = (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    } else if (protocol == IPPROTO_UDP) {
        if (load_bytes(skb, at, &header, 4))
            return;
    } else {
        return;
    }
    packet->ports = 1;
    packet->peer_port = from_wire16(direction == OUT ? header.destination : header.source);
    packet->own_port = from_wire16(direction == OUT ? header.source : header.destination);
}

INLINE void parse4(struct __sk_buff *skb, __u32 at, __u32 direction, __u32 asks, struct packet *packet) {
    struct ipv4 ip;
    if (load_bytes(skb, at, &ip, sizeof(ip)))
        return;
    __u32 length = (ip.version_length & 15) * 4;
    if (ip.version_length >> 4 != 4 || length < sizeof(ip))
        return;
    packet->family = 4;
    packet->protocol = ip.protocol;
    packet->peer[0] = direction == OUT ? ip.destination : ip.source;
    __u16 fragment = from_wire16(ip.fragment);
    /* The offset, and whether more fragments follow. */
    if (fragment & 0x3fff) {
        packet->fragment = fragment & 0x1fff ? LATER_FRAGMENT : FIRST_FRAGMENT;
        packet->datagram.source[0] = ip.source;
        packet->datagram.destination[0] = ip.destination;
        packet->datagram.id = ip.id;
        packet->datagram.protocol = ip.protocol;
        packet->datagram.family = 4;
        packet->datagram.direction = direction;
    }
    if (packet->fragment != LATER_FRAGMENT)
        parse_transport(skb, at + length, ip.protocol, direction, asks, packet);
}

INLINE void parse6(struct __sk_buff *skb, __u32 at, __u32 direction, __u32 asks, struct packet *packet) {
    struct ipv6 ip;
    if (load_bytes(skb, at, &ip, sizeof(ip)) || (*(__u8 *)&ip >> 4) != 6)
        return;
    packet->family = 6;
    copy16(packet->peer, direction == OUT ? ip.destination : ip.source);
    __u8 next = ip.next;
    at += sizeof(ip);
    for (int i = 0; i < MAX_EXTENSIONS; i++) {
        struct extension extension = {};
        if (next == IPPROTO_FRAGMENT) {
            if (load_bytes(skb, at, &extension, 8))
                return;
            __u16 offset = from_wire16(extension.offset);
            /* One that is first and last is no fragment (RFC 6946). */
            if (offset & ~7 || offset & 1) {
                packet->fragment = offset & ~7 ? LATER_FRAGMENT : FIRST_FRAGMENT;
                copy16(packet->datagram.source, ip.source);
                copy16(packet->datagram.destination, ip.destination);
                packet->datagram.id = extension.id;
                packet->datagram.protocol = extension.next;
                packet->datagram.family = 6;
                packet->datagram.direction = direction;
            }
            at += 8;
        } else if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_MH) {
            if (load_bytes(skb, at, &extension, 2))
                return;
            at += (extension.length + 1) * 8;
        } else if (next == IPPROTO_AH) {
            if (load_bytes(skb, at, &extension, 2))
                return;
            at += (extension.length + 2) * 4;
        } else {
            break;
        }
        next = extension.next;
        /* What stands behind a later fragment's header is the middle of something. */
        if (packet->fragment == LATER_FRAGMENT)
            break;
    }
    packet->protocol = next == IPPROTO_ICMPV6 ? IPPROTO_ICMP : next == IPPROTO_ICMP ? IPPROTO_RAW : next;
    if (packet->fragment != LATER_FRAGMENT)
        parse_transport(skb, at, next, direction, asks, packet);
}

/*
 * What most packets are, read with one call: IPv4 without options, tags or fragments. Gives 0, and leaves the packet zero,
 * for all others.
 */
INLINE int parse_plain(struct __sk_buff *skb, __u32 direction, __u32 asks, struct packet *packet) {
    struct {
        __u16 type;
        __u8 version_length, tos;
        __u16 length, id, fragment;
        __u8 ttl, protocol;
        __u16 checksum;
        __u16 source[2], destination[2];
    } head;
    if (load_bytes(skb, ETH_HLEN - 2, &head, sizeof(head)))
        return 0;
    if (head.type != from_wire16(ETH_P_IP) || head.version_length != 0x45 || head.fragment & from_wire16(0x3fff))
        return 0;
    packet->family = 4;
    packet->protocol = head.protocol;
    __builtin_memcpy(packet->peer, direction == OUT ? head.destination : head.source, 4);
    parse_transport(skb, ETH_HLEN + 20, head.protocol, direction, asks, packet);
    return 1;
}

/* Fills a packet that is zero. What is cut short or malformed is known as far as it can be read. */
INLINE void parse(struct __sk_buff *skb, __u32 direction, __u32 asks, struct packet *packet) {
    if (parse_plain(skb, direction, asks, packet))
        return;
    __u32 at = ETH_HLEN;
    __u16 type;
    if (load_bytes(skb, ETH_HLEN - 2, &type, 2))
        return;
    /* A tag that the kernel has taken out (skb->vlan_tci) needs no care: the type behind it is in the frame. */
    for (int i = 0; i < MAX_TAGS; i++) {
        if (!is_tag(type))
            break;
        if (load_bytes(skb, at + 2, &type, 2))
            return;
        at += 4;
    }
    if (type == from_wire16(ETH_P_IP))
        parse4(skb, at, direction, asks, packet);
    else if (type == from_wire16(ETH_P_IPV6))
        parse6(skb, at, direction, asks, packet);
}

#endif
