//! What a link does for the protocols: segmentation, check sums and their kin, all of which can be turned off.
//!
//! The features are a row of bits whose names the kernel tells (linux/ethtool.h, `ETHTOOL_GFEATURES`, `ETHTOOL_SFEATURES`,
//! `ETH_SS_FEATURES`), by an ioctl that works on any socket of the link's namespace (netdevice(7)).

use std::io;
use std::os::fd::AsRawFd;

use crate::name::unescape;
use crate::{Error, IfIndex, Result, Socket};

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// More features than this no kernel has; a larger number is not believed.
const MOST: u32 = 4096;

/// The four words that `ETHTOOL_GFEATURES` has for 32 features.
struct Block {
    changeable: u32,
    active: u32,
}

impl Socket {
    /// Turns every feature of a link off that can be: what it sends is segmented, check-summed and put in one piece before.
    ///
    /// Gives the names of those that are still on because they cannot be changed.
    pub fn turn_offloads_off(&mut self, link: IfIndex) -> Result<Vec<String>> {
        let what = format!("turn the offloads of link {link} off");
        let mut name = self.ioctl_name(&what, link)?;
        let count = self.feature_count(&what, &mut name)?;
        let blocks = self.features(&what, &mut name, count)?;
        let mut request = vec![ETHTOOL_SFEATURES, blocks.len() as u32];
        // Which are to be changed, and to what.
        request.extend(blocks.iter().flat_map(|block| [block.changeable, 0]));
        self.ethtool(&what, &mut name, &mut request)?;
        let names = self.feature_names(&what, &mut name, count)?;
        let after = self.features(&what, &mut name, count)?;
        let mut left = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let bit = 1 << (number % 32);
            let Some(block) = after.get(number / 32) else { break };
            if block.active & bit != 0 {
                if block.changeable & bit != 0 {
                    tracing::debug!(name, "it was turned off, and is on");
                }
                left.push(name);
            }
        }
        Ok(left)
    }

    /// Has a link join what it receives (generic receive offload); tells whether it does.
    pub fn turn_receive_offload_on(&mut self, link: IfIndex) -> Result<bool> {
        let what = format!("turn the receive offload of link {link} on");
        let mut name = self.ioctl_name(&what, link)?;
        // struct ethtool_value: command, data.
        self.ethtool(&what, &mut name, &mut [ETHTOOL_SGRO, 1])?;
        let mut now = [ETHTOOL_GGRO, 0];
        self.ethtool(&what, &mut name, &mut now)?;
        Ok(now[1] != 0)
    }

    fn feature_count(&mut self, what: &str, name: &mut libc::ifreq) -> Result<u32> {
        // struct ethtool_sset_info: command, reserved, a mask of 64 bits, one length.
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        let half = |at: usize| u32::from_ne_bytes([mask[at], mask[at + 1], mask[at + 2], mask[at + 3]]);
        let mut request = vec![ETHTOOL_GSSET_INFO, 0, half(0), half(4), 0];
        self.ethtool(what, name, &mut request)?;
        match request[4] {
            count @ 1..=MOST => Ok(count),
            _ => Err(Error::Malformed { what: what.into(), why: "its number of features makes no sense" }),
        }
    }

    fn feature_names(&mut self, what: &str, name: &mut libc::ifreq, count: u32) -> Result<Vec<String>> {
        let mut request = vec![ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count];
        request.resize(3 + count as usize * ETH_GSTRING_LEN / size_of::<u32>(), 0);
        self.ethtool(what, name, &mut request)?;
        let bytes: Vec<u8> = request[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let text = |name: &[u8]| {
            let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            String::from_utf8_lossy(&name[..end]).into_owned()
        };
        Ok(bytes.chunks(ETH_GSTRING_LEN).map(text).collect())
    }

    fn features(&mut self, what: &str, name: &mut libc::ifreq, count: u32) -> Result<Vec<Block>> {
        let blocks = count.div_ceil(32);
        let mut request = vec![ETHTOOL_GFEATURES, blocks];
        request.resize(2 + blocks as usize * 4, 0);
        self.ethtool(what, name, &mut request)?;
        // Available, requested, active, never changed.
        Ok(request[2..]
            .chunks_exact(4)
            .map(|block| Block { changeable: block[0], active: block[2] })
            .collect())
    }

    /// A request with the name that the link has now.
    fn ioctl_name(&mut self, what: &str, link: IfIndex) -> Result<libc::ifreq> {
        let links = self.links(None)?;
        let found = links.iter().find(|candidate| candidate.index == link);
        let gone = || Error::os(what, io::Error::from_raw_os_error(libc::ENODEV));
        let bytes = unescape(&found.ok_or_else(gone)?.name);
        // SAFETY: a request is plain bytes; zeroes are an empty name.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // Names from the kernel are shorter than the field, by the zero at their end.
        for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
            *to = from as libc::c_char;
        }
        Ok(request)
    }

    /// Has the kernel answer in the words of the request: as many as its command has, or it says itself.
    fn ethtool(&mut self, what: &str, name: &mut libc::ifreq, words: &mut [u32]) -> Result<()> {
        const SIOCETHTOOL: libc::Ioctl = 0x8946;
        name.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        let socket = self.netlink.as_raw_fd();
        // SAFETY: the kernel reads and writes as many words as the command has, or as the request's own count says, for which
        // the callers have made room; the socket is open.
        let answer = unsafe { libc::ioctl(socket, SIOCETHTOOL, &raw mut *name) };
        if answer < 0 { Err(Error::os(what, io::Error::last_os_error())) } else { Ok(()) }
    }
}
