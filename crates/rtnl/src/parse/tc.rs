//! RTM_NEWQDISC and RTM_NEWTFILTER: `struct tcmsg` and `TCA_*` (linux/rtnetlink.h, linux/pkt_cls.h).

use super::{Refusal, index};
use crate::filter::{Filter, FilterId, FilterSide};
use crate::name::escape;
use crate::wire::{Malformed, attributes, take};
use crate::{AttachedQdisc, IfIndex};

/// Options of cls_bpf in linux/pkt_cls.h.
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

/// The words of `struct tcmsg` after family and padding.
struct Place {
    link: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

fn place(payload: &[u8]) -> Result<(Place, &[u8]), Malformed> {
    let (fixed, rest) = take::<20>(payload, "a message of traffic control ends within its header")?;
    let word = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    Ok((Place { link: word(4), handle: word(8), parent: word(12), info: word(16) }, rest))
}

/// Reads a queueing discipline.
pub(crate) fn qdisc(payload: &[u8]) -> Result<Option<AttachedQdisc>, Refusal> {
    let (place, rest) = place(payload)?;
    let mut kind = None;
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind == libc::TCA_KIND {
            kind = Some(escape(attribute.text()));
        }
    }
    let kind = kind.ok_or(Refusal::Malformed("a queueing discipline has no kind"))?;
    Ok(Some(AttachedQdisc { link: index(place.link)?, kind, handle: place.handle, parent: place.parent }))
}

/// Reads a filter of this side of a link. What is no filter but the head of a priority's list is left out.
pub(crate) fn filter(payload: &[u8], link: IfIndex, side: FilterSide) -> Result<Option<Filter>, Refusal> {
    let (place, rest) = place(payload)?;
    if place.link != link.get() || place.parent != side.parent() || place.handle == 0 {
        return Ok(None);
    }
    let (mut kind, mut program, mut name) = (None, None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            libc::TCA_KIND => kind = Some(escape(attribute.text())),
            // The kind stands before its options (net/sched/cls_api.c, tcf_fill_node).
            libc::TCA_OPTIONS if kind.as_deref() == Some("bpf") => {
                for option in attribute.nested() {
                    let option = option?;
                    match option.kind {
                        TCA_BPF_ID => program = Some(option.u32()?),
                        TCA_BPF_NAME => name = Some(escape(option.text())),
                        _ => (),
                    }
                }
            }
            _ => (),
        }
    }
    let kind = kind.ok_or(Refusal::Malformed("a filter has no kind"))?;
    // The upper and the lower half, of 16 bits each.
    let (priority, protocol) = ((place.info >> 16) as u16, u16::from_be(place.info as u16));
    let id = FilterId { side, priority, handle: place.handle };
    Ok(Some(Filter { id, kind, protocol, program, name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    fn message(words: [u32; 5], kind: &str, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWTFILTER, 0);
        message.raw(&words.into_iter().flat_map(u32::to_ne_bytes).collect::<Vec<u8>>());
        message.put_text(libc::TCA_KIND, kind.as_bytes());
        message.nest(libc::TCA_OPTIONS, |nested| {
            for (kind, value) in options {
                nested.put(*kind, value);
            }
        });
        message.with_sequence(1)[16..].to_vec()
    }

    #[test]
    fn a_filter_has_its_priority_and_its_program() {
        let (link, side) = (IfIndex::new(7).unwrap(), FilterSide::Egress);
        let info = 49152 << 16 | u32::from(3u16.to_be());
        let options: [(u16, &[u8]); 2] = [(TCA_BPF_ID, &99u32.to_ne_bytes()), (TCA_BPF_NAME, b"gate\x1b\0")];
        let bytes = message([0, 7, 1, side.parent(), info], "bpf", &options);
        let found = filter(&bytes, link, side).unwrap().unwrap();
        assert_eq!((found.id.priority, found.id.handle, found.protocol), (49152, 1, 3));
        assert_eq!((found.program, found.name.as_deref()), (Some(99), Some(r"gate\x1b")));
        assert_eq!(filter(&bytes, link, FilterSide::Ingress), Ok(None), "it is at the other side");
        let head = message([0, 7, 0, side.parent(), info], "bpf", &[]);
        assert_eq!(filter(&head, link, side), Ok(None), "a list's head is no filter");
        let other = message([0, 7, 1, side.parent(), info], "u32", &options);
        assert_eq!(filter(&other, link, side).unwrap().unwrap().program, None, "another kind's options");
    }

    #[test]
    fn a_queueing_discipline_has_its_place() {
        let found = qdisc(&message([0, 3, 0xffff_0000, 0xffff_fff1, 0], "clsact", &[])).unwrap().unwrap();
        assert_eq!((found.link.get(), found.kind.as_str(), found.parent), (3, "clsact", 0xffff_fff1));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = qdisc(&bytes);
            let _ = filter(&bytes, IfIndex::new(1).unwrap(), FilterSide::Ingress);
        }
    }
}
