// SPDX-License-Identifier: MIT OR Apache-2.0
//
// The tap's programs. One stands in the look-up of listening sockets of a network namespace (BPF_PROG_TYPE_SK_LOOKUP)
// and gives new connections for a port to the tap's own socket. Two stand where a process asks who its peer is
// (BPF_CGROUP_INET4_GETPEERNAME and its IPv6 sibling, which accept(2) passes as well) and name the client instead of the
// tap. Four do the same for datagrams, where a process receives one (BPF_CGROUP_UDP4_RECVMSG) and where it answers to the
// address that it was told (BPF_CGROUP_UDP4_SENDMSG). None of them touches a packet, and all are held by links that go
// with the process.

#include <linux/bpf.h>
#include <linux/in.h>

#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_sk_assign)(void *ctx, void *sk, __u64 flags) = (void *)BPF_FUNC_sk_assign;
static long (*const bpf_sk_release)(void *sk) = (void *)BPF_FUNC_sk_release;
static __u64 (*const bpf_get_netns_cookie)(void *ctx) = (void *)BPF_FUNC_get_netns_cookie;

#define FAMILY_IPV4 2
#define V4_MAPPED __builtin_bswap32(0x0000ffff)

// A socket's own end. IPv4 addresses are mapped into IPv6 (RFC 4291, 2.5.5.2), in network order; the port is the
// machine's number.
struct place {
    __u32 address[4];
    __u16 port;
    __u8 protocol;
    __u8 zero;
};

// A port that is tapped, and where in `sockets` its listeners are.
struct door {
    __u16 port;
    __u8 protocol;
    __u8 zero;
};

struct listeners {
    __u32 v4;
    __u32 v6;
    // 0: connections go past the tap, to the application.
    __u32 open;
};

// For whom the tap speaks on a connection of its own to the application.
struct client {
    __u32 address[4];
    __u64 netns;
    __u16 port;
    __u16 zero[3];
};

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 256);
    __type(key, struct door);
    __type(value, struct listeners);
} doors SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, 512);
    __type(key, __u32);
    __type(value, __u32);
} sockets SEC(".maps");

// Where somebody listens; the unspecified address for all of a family.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 4096);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct place);
    __type(value, __u32);
} listening SEC(".maps");

// The tap's own ends towards the application.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 262144);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct place);
    __type(value, struct client);
} own SEC(".maps");

// Somebody to whom an application answers with datagrams, from a port of its own.
struct answer {
    __u32 address[4];
    __u64 netns;
    __u16 port;
    __u16 from;
    __u32 zero;
};

// Where the tap waits for these answers.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, struct answer);
    __type(value, struct place);
} answers SEC(".maps");

// Whether the kernel would find somebody for the place: at the address itself, or at all addresses of the family.
static __attribute__((always_inline)) int somebody(struct place *place)
{
    if (bpf_map_lookup_elem(&listening, place))
        return 1;
    if (place->address[0] == 0 && place->address[1] == 0 && place->address[2] == V4_MAPPED) {
        place->address[3] = 0;
    } else {
        place->address[0] = place->address[1] = place->address[2] = place->address[3] = 0;
    }
    return bpf_map_lookup_elem(&listening, place) != 0;
}

SEC("sk_lookup")
int tap(struct bpf_sk_lookup *ctx)
{
    struct door door = { .port = ctx->local_port, .protocol = ctx->protocol };
    struct listeners *to = bpf_map_lookup_elem(&doors, &door);
    if (!to || !to->open)
        return SK_PASS;

    struct place far = { .protocol = ctx->protocol, .port = __builtin_bswap16(ctx->remote_port) };
    struct place near = { .protocol = ctx->protocol, .port = ctx->local_port };
    // All of these are read in every case: a load whose place depends on a branch is refused by the verifier. Those of
    // the other family are zero.
    volatile struct bpf_sk_lookup *all = ctx;
    __u32 remote = all->remote_ip4, local = all->local_ip4;
#pragma unroll
    for (int word = 0; word < 4; word++) {
        far.address[word] = all->remote_ip6[word];
        near.address[word] = all->local_ip6[word];
    }
    __u32 index = to->v6;
    if (ctx->family == FAMILY_IPV4) {
        far.address[2] = near.address[2] = V4_MAPPED;
        far.address[3] = remote;
        near.address[3] = local;
        index = to->v4;
    }
    // The tap's own way to the application; and where nobody listens the kernel refuses, as it always did.
    if (bpf_map_lookup_elem(&own, &far) || !somebody(&near))
        return SK_PASS;
    void *socket = bpf_map_lookup_elem(&sockets, &index);
    if (!socket)
        return SK_PASS;
    bpf_sk_assign(ctx, socket, 0);
    bpf_sk_release(socket);
    return SK_PASS;
}

// Names the client where the tap is the peer.
static __attribute__((always_inline)) int name4(struct bpf_sock_addr *ctx)
{
    struct place place = { .port = __builtin_bswap16(ctx->user_port), .protocol = ctx->protocol };
    place.address[2] = V4_MAPPED;
    place.address[3] = ctx->user_ip4;
    struct client *client = bpf_map_lookup_elem(&own, &place);
    if (client && client->netns == bpf_get_netns_cookie(ctx)) {
        ctx->user_ip4 = client->address[3];
        ctx->user_port = __builtin_bswap16(client->port);
    }
    return 1;
}

static __attribute__((always_inline)) int name6(struct bpf_sock_addr *ctx)
{
    struct place place = { .port = __builtin_bswap16(ctx->user_port), .protocol = ctx->protocol };
    place.address[0] = ctx->user_ip6[0];
    place.address[1] = ctx->user_ip6[1];
    place.address[2] = ctx->user_ip6[2];
    place.address[3] = ctx->user_ip6[3];
    struct client *client = bpf_map_lookup_elem(&own, &place);
    if (client && client->netns == bpf_get_netns_cookie(ctx)) {
        ctx->user_ip6[0] = client->address[0];
        ctx->user_ip6[1] = client->address[1];
        ctx->user_ip6[2] = client->address[2];
        ctx->user_ip6[3] = client->address[3];
        ctx->user_port = __builtin_bswap16(client->port);
    }
    return 1;
}

SEC("cgroup/getpeername4")
int peer4(struct bpf_sock_addr *ctx)
{
    return name4(ctx);
}

SEC("cgroup/getpeername6")
int peer6(struct bpf_sock_addr *ctx)
{
    return name6(ctx);
}

SEC("cgroup/recvmsg4")
int receive4(struct bpf_sock_addr *ctx)
{
    return name4(ctx);
}

SEC("cgroup/recvmsg6")
int receive6(struct bpf_sock_addr *ctx)
{
    return name6(ctx);
}

SEC("cgroup/sendmsg4")
int answer4(struct bpf_sock_addr *ctx)
{
    struct answer to = { .port = __builtin_bswap16(ctx->user_port), .from = ctx->sk->src_port };
    to.netns = bpf_get_netns_cookie(ctx);
    to.address[2] = V4_MAPPED;
    to.address[3] = ctx->user_ip4;
    struct place *place = bpf_map_lookup_elem(&answers, &to);
    if (place) {
        ctx->user_ip4 = place->address[3];
        ctx->user_port = __builtin_bswap16(place->port);
    }
    return 1;
}

SEC("cgroup/sendmsg6")
int answer6(struct bpf_sock_addr *ctx)
{
    struct answer to = { .port = __builtin_bswap16(ctx->user_port), .from = ctx->sk->src_port };
    to.netns = bpf_get_netns_cookie(ctx);
    to.address[0] = ctx->user_ip6[0];
    to.address[1] = ctx->user_ip6[1];
    to.address[2] = ctx->user_ip6[2];
    to.address[3] = ctx->user_ip6[3];
    struct place *place = bpf_map_lookup_elem(&answers, &to);
    if (place) {
        ctx->user_ip6[0] = place->address[0];
        ctx->user_ip6[1] = place->address[1];
        ctx->user_ip6[2] = place->address[2];
        ctx->user_ip6[3] = place->address[3];
        ctx->user_port = __builtin_bswap16(place->port);
    }
    return 1;
}

char words[] SEC("license") = "Dual MIT/GPL";
