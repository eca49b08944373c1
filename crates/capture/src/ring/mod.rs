//! Packets from the kernel: one packet socket with a mapped ring for each link (packet(7), Documentation/networking/packet_mmap.rst).
