//! ARP (RFC 826) and RARP (RFC 903), for IPv4 over six-byte hardware addresses; other kinds are named by their numbers.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::bytes::{Bytes, be16, part};
use super::ether::{MacAddress, serialize_mac};
use super::layers::{Layer, Step, cut, end};
use super::line::View;
use super::text;

/// Who has which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Arp {
    /// 1 request, 2 reply, 3 reverse request, 4 reverse reply, 8 inverse request, 9 inverse reply.
    pub operation: u16,
    /// Hardware type; 1 is Ethernet.
    pub hardware: u16,
    /// Protocol type, an ethertype; 0x0800 is IPv4.
    pub protocol: u16,
    /// The sender's hardware address.
    #[serde(serialize_with = "serialize_mac")]
    pub sender_mac: MacAddress,
    /// The sender's address.
    pub sender: Ipv4Addr,
    /// The target's hardware address; noughts in a request.
    #[serde(serialize_with = "serialize_mac")]
    pub target_mac: MacAddress,
    /// The address that is asked for.
    pub target: Ipv4Addr,
    /// Bytes of it, with padding.
    pub length: usize,
}

pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let Some(header) = bytes.array::<8>() else { return cut("arp") };
    let (hardware, protocol, operation) = (be16(header, 0), be16(header, 2), be16(header, 6));
    if protocol != 0x0800 || header[4] != 6 || header[5] != 4 {
        return end(Layer::Malformed("arp address lengths", u32::from(be16(header, 4))));
    }
    let Some(body) = bytes.array::<20>() else { return cut("arp") };
    end(Layer::Arp(Arp {
        operation,
        hardware,
        protocol,
        sender_mac: part(body, 0),
        sender: Ipv4Addr::from(part::<20, 4>(body, 6)),
        target_mac: part(body, 10),
        target: Ipv4Addr::from(part::<20, 4>(body, 16)),
        length,
    }))
}

impl Arp {
    pub(crate) fn line(&self, view: &View<'_>, out: &mut Vec<u8>) {
        let target = IpAddr::V4(self.target);
        let sender = IpAddr::V4(self.sender);
        match self.operation {
            1 if self.sender == self.target => {
                text::put(out, "ARP announcement ");
                view.ip(out, sender);
                text::put(out, " is-at ");
                text::mac(out, self.sender_mac);
            }
            1 => {
                text::put(out, "ARP who-has ");
                view.ip(out, target);
                if self.target_mac != [0; 6] {
                    text::put(out, " (");
                    text::mac(out, self.target_mac);
                    out.push(b')');
                }
                text::put(out, " tell ");
                view.ip(out, sender);
            }
            2 => {
                text::put(out, "ARP reply ");
                view.ip(out, sender);
                text::put(out, " is-at ");
                text::mac(out, self.sender_mac);
            }
            3 => {
                text::put(out, "RARP who-is ");
                text::mac(out, self.target_mac);
                text::put(out, " tell ");
                text::mac(out, self.sender_mac);
            }
            4 => {
                text::put(out, "RARP reply ");
                text::mac(out, self.target_mac);
                text::put(out, " at ");
                view.ip(out, target);
            }
            other => {
                text::put(out, "ARP operation ");
                text::decimal(out, u32::from(other));
            }
        }
        text::put(out, " length ");
        text::length(out, self.length);
    }
}
