//! Captures in files: pcapng and pcap, read and written.
