/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What every program needs of the kernel: sections, maps described by BTF, and those helpers that are used here, by
 * their numbers in linux/bpf.h (bpf-helpers(7)). The layouts come from the kernel's user space headers alone.
 */
#ifndef SNORKEL_KERNEL_H
#define SNORKEL_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

/* A map's description, as BTF carries it (Documentation/bpf/btf.rst). */
#define NUMBER(name, value) int(*name)[value]
#define TYPE(name, type) __typeof__(type) *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define from_wire16(value) __builtin_bswap16(value)
#else
#define from_wire16(value) (value)
#endif

static void *(*const lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const update)(void *map, const void *key, const void *value, __u64 flags) = (void *)BPF_FUNC_map_update_elem;
static long (*const erase)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static long (*const tail_call)(void *skb, void *jump_table, __u32 index) = (void *)BPF_FUNC_tail_call;
static __u64 (*const ticks)(void) = (void *)BPF_FUNC_jiffies64;
static __u64 (*const monotonic)(void) = (void *)BPF_FUNC_ktime_get_ns;
static long (*const load_bytes)(const void *skb, __u32 offset, void *to, __u32 length) = (void *)BPF_FUNC_skb_load_bytes;
static long (*const csum_level)(void *skb, __u64 level) = (void *)BPF_FUNC_csum_level;
static long (*const redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const redirect_peer)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect_peer;

#endif
