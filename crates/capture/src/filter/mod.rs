//! Filters in tcpdump's language (pcap-filter(7)).
