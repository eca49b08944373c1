//! Capabilities of the calling thread (capabilities(7), capget(2)).

/// Capability numbers of linux/capability.h that snorkel asks for.
pub mod number {
    /// Configure links, addresses, routes; join another's network namespace.
    pub const NET_ADMIN: u32 = 12;
    /// Raw and packet sockets.
    pub const NET_RAW: u32 = 13;
    /// Read other processes' /proc files and namespaces.
    pub const SYS_PTRACE: u32 = 19;
    /// Join namespaces, mount.
    pub const SYS_ADMIN: u32 = 21;
}

/// The effective set as a bit mask, bit N for capability N.
pub fn effective() -> u64 {
    let set = rustix::thread::capabilities(None);
    set.map_or(0, |sets| sets.effective.bits())
}

/// Whether this capability is in the effective set.
pub fn has(capability: u32) -> bool {
    effective() & (1 << capability) != 0
}
