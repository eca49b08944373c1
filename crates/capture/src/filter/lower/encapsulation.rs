//! Headers within headers: `vlan`, `mpls`, `pppoes`, `geneve`. Each moves what comes after it in the expression.

use super::layout::Offset;
use super::*;
use crate::LinkType;
use crate::filter::ast::Number;

impl Lowering<'_> {
    /// A number that a header has room for.
    fn within(&self, number: Option<&Number>, largest: u32, what: &str) -> Result<Option<u32>, Error> {
        match number {
            Some(number) if number.value > largest => Err(Error::new(
                number.span.clone(),
                format!("{} is no {what}: the largest is {largest}", number.value),
            )),
            number => Ok(number.map(|number| number.value)),
        }
    }

    pub(super) fn vlan(&mut self, number: Option<&Number>) -> Result<Fragment, Error> {
        if self.layout.labels > 0 {
            return Err(self.error("behind MPLS labels no VLAN tags can be told"));
        }
        if self.layout.link != LinkType::ETHERNET {
            return Err(self.error(format!("packets of type {} have no VLAN tags", self.layout.link)));
        }
        let number = self.within(number, 0xfff, "VLAN")?;
        let outermost = self.layout.tags == 0 && self.layout.header == Offset::fixed(0);
        let fragment = if outermost && !self.is_file() {
            self.vlan_from_kernel(number)?
        } else {
            self.vlan_in_frame(number)?
        };
        self.layout.tags += 1;
        Ok(fragment)
    }

    fn is_tagged(&mut self) -> Result<Fragment, Error> {
        let types = link::ETHERTYPES_VLAN
            .map(|ethertype| self.link_type(ethertype))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?;
        Ok(self.any(types))
    }

    fn vlan_in_frame(&mut self, number: Option<u32>) -> Result<Fragment, Error> {
        let mut fragment = self.is_tagged()?;
        if let Some(number) = number {
            let numbered = self.masked(Base::Network, 0, bpf::H, number, 0xfff);
            fragment = self.graph.and(fragment, numbered);
        }
        self.layout.payload.constant = self.layout.payload.constant.wrapping_add(4);
        if let Some(protocol) = &mut self.layout.protocol {
            protocol.constant = protocol.constant.wrapping_add(4);
        }
        Ok(fragment)
    }

    /// The kernel takes the outermost tag out of the frame and keeps it beside it, mostly: it may as well be in the
    /// frame. Which of both is found out for each packet, and what comes after a tag in the frame is 4 bytes further.
    fn vlan_from_kernel(&mut self, number: Option<u32>) -> Result<Fragment, Error> {
        let beside = self.ancillary(bpf::B, bpf::ANCILLARY_VLAN_PRESENT, 1);
        let within = self.is_tagged()?;
        let numbered = match number {
            None => None,
            Some(number) => {
                let there = self.ancillary(bpf::B, bpf::ANCILLARY_VLAN_PRESENT, 1);
                let tag = vec![
                    Step::Plain(bpf::LD | bpf::ABS | bpf::B, bpf::ANCILLARY_VLAN_TAG),
                    Step::Plain(bpf::ALU | bpf::AND | bpf::K, 0xfff),
                ];
                let beside = self.graph.block(tag, Test::Constant(Compare::Equal, number));
                let within = self.masked(Base::Network, 0, bpf::H, number, 0xfff);
                Some(self.graph.choose(there, beside, within))
            }
        };
        // The offsets are moved before the tag is looked for, whether it is there or not: a filter that goes on after a
        // "no" (`vlan or ip`) goes on behind the place of a tag, as in a file.
        let mut steps = Vec::new();
        for offset in [Some(&mut self.layout.payload), self.layout.protocol.as_mut()].into_iter().flatten() {
            if self.cells + 1 >= self.scratch {
                return Err(Error::new(self.span.clone(), "too many headers of variable length before this"));
            }
            let cell = self.cells;
            self.cells += 1;
            self.initial.push(cell);
            offset.cell = Some(cell);
            steps.extend([
                Step::Plain(bpf::LD | bpf::MEM, cell),
                Step::Plain(bpf::ALU | bpf::ADD | bpf::K, 4),
                Step::Plain(bpf::ST, cell),
            ]);
        }
        self.graph.prepend(&within, &steps);
        let tagged = self.graph.or(beside, within);
        Ok(match numbered {
            Some(numbered) => self.graph.and(tagged, numbered),
            None => tagged,
        })
    }

    pub(super) fn mpls(&mut self, label: Option<&Number>) -> Result<Fragment, Error> {
        let mut fragment = if self.layout.labels > 0 {
            // The label before is not the last one.
            self.masked(Base::LastLabel, 2, bpf::B, 0, 0x01)
        } else {
            match self.layout.link {
                LinkType::ETHERNET => self.link_type(link::ETHERTYPE_MPLS)?,
                LinkType::PPP => self.link_type(link::PPP_MPLS)?,
                link => return Err(self.error(format!("packets of type {link} have no MPLS labels"))),
            }
        };
        if let Some(label) = self.within(label, 0xf_ffff, "MPLS label")? {
            let there = self.masked(Base::Network, 0, bpf::W, label << 12, 0xffff_f000);
            fragment = self.graph.and(fragment, there);
        }
        self.layout.network = self.layout.network.wrapping_add(4);
        self.layout.network_after_llc = self.layout.network_after_llc.wrapping_add(4);
        self.layout.labels += 1;
        Ok(fragment)
    }

    pub(super) fn pppoe_session(&mut self, session: Option<&Number>) -> Result<Fragment, Error> {
        let mut fragment = self.link_type(link::ETHERTYPE_PPPOE_SESSION)?;
        if let Some(session) = self.within(session, 0xffff, "PPPoE session")? {
            let there = self.masked(Base::Network, 0, bpf::W, session, 0xffff);
            fragment = self.graph.and(fragment, there);
        }
        // Six bytes of PPPoE, then PPP without HDLC's framing.
        let layout = &mut self.layout;
        let constant = layout.payload.constant.wrapping_add(layout.network).wrapping_add(6);
        layout.link = LinkType::PPP;
        layout.header = Offset { constant, cell: layout.payload.cell };
        layout.protocol = Some(layout.header);
        layout.payload.constant = constant.wrapping_add(2);
        layout.network = 0;
        layout.network_after_llc = 0;
        layout.geneve = false;
        Ok(fragment)
    }

    pub(super) fn geneve(&mut self, network: Option<&Number>) -> Result<Fragment, Error> {
        let network = self.within(network, 0xff_ffff, "Geneve network")?;
        // Three cells: the inner frame's link header (while they are found out: the length of the IP header), its
        // payload, and the field of that one's type.
        let (header, payload, protocol) = (self.cell()?, self.cell()?, self.cell()?);
        let v4 = self.geneve_over(network, false, header)?;
        let v6 = self.geneve_over(network, true, header)?;
        let tunnel = self.graph.or(v4, v6);

        let start = self.layout.payload.constant.wrapping_add(self.layout.network).wrapping_add(8);
        let offsets = vec![
            Step::Plain(bpf::LD | bpf::MEM, header),
            Step::Plain(bpf::ALU | bpf::ADD | bpf::K, start),
            // X: Geneve's header. Its field for the type is an Ethernet type.
            Step::Plain(bpf::MISC | bpf::TAX, 0),
            Step::Plain(bpf::ALU | bpf::ADD | bpf::K, 2),
            Step::Plain(bpf::ST, protocol),
            // The length of its options, in words of four bytes.
            Step::Plain(bpf::LD | bpf::IND | bpf::B, 0),
            Step::Plain(bpf::ALU | bpf::AND | bpf::K, 0x3f),
            Step::Plain(bpf::ALU | bpf::MUL | bpf::K, 4),
            Step::Plain(bpf::ALU | bpf::ADD | bpf::K, 8),
            Step::Plain(bpf::ALU | bpf::ADD | bpf::X, 0),
            Step::Plain(bpf::ST, header),
            Step::Plain(bpf::LD | bpf::IND | bpf::H, 2),
        ];
        let bridged = self.graph.block(offsets, Test::Constant(Compare::Equal, link::ETHERTYPE_BRIDGED));
        let frame = self.graph.act(vec![
            Step::Plain(bpf::LD | bpf::MEM, header),
            Step::Plain(bpf::ALU | bpf::ADD | bpf::K, 12),
            Step::Plain(bpf::ST, protocol),
            Step::Plain(bpf::ALU | bpf::ADD | bpf::K, 2),
            Step::Plain(bpf::ST, payload),
        ]);
        let packet =
            self.graph.act(vec![Step::Plain(bpf::LD | bpf::MEM, header), Step::Plain(bpf::ST, payload)]);
        let found = self.graph.choose(bridged, frame, packet);

        let layout = &mut self.layout;
        layout.link = LinkType::ETHERNET;
        layout.header = Offset { constant: 0, cell: Some(header) };
        layout.payload = Offset { constant: 0, cell: Some(payload) };
        layout.protocol = Some(Offset { constant: 0, cell: Some(protocol) });
        layout.network = 0;
        layout.geneve = true;
        Ok(self.graph.and(tunnel, found))
    }

    /// Geneve over one version of IP; `cell` then has what X is counted from to the UDP header.
    fn geneve_over(&mut self, network: Option<u32>, v6: bool, cell: u32) -> Result<Fragment, Error> {
        let base = if v6 { Base::TransportV6 } else { Base::TransportV4 };
        let mut fragment = self.geneve_port(v6)?;
        let version = self.masked(base, 8, bpf::B, 0, 0xc0);
        fragment = self.graph.and(fragment, version);
        if let Some(network) = network {
            let there = self.masked(base, 12, bpf::W, network << 8, 0xffff_ff00);
            fragment = self.graph.and(fragment, there);
        }
        let steps = match (v6, self.layout.payload.cell) {
            (false, _) => {
                let mut steps = self.transport_index();
                steps.push(Step::Plain(bpf::STX, cell));
                steps
            }
            (true, None) => vec![Step::Plain(bpf::LD | bpf::IMM, 40), Step::Plain(bpf::ST, cell)],
            (true, Some(variable)) => vec![
                Step::Plain(bpf::LD | bpf::MEM, variable),
                Step::Plain(bpf::ALU | bpf::ADD | bpf::K, 40),
                Step::Plain(bpf::ST, cell),
            ],
        };
        let length = self.graph.act(steps);
        Ok(self.graph.and(fragment, length))
    }

    /// What is true of a link header, only where there is one: Geneve may carry packets without.
    pub(super) fn only_with_link_header(&mut self, fragment: Fragment) -> Fragment {
        let (true, Some(header), Some(payload)) =
            (self.layout.geneve, self.layout.header.cell, self.layout.payload.cell)
        else {
            return fragment;
        };
        let steps = vec![Step::Plain(bpf::LD | bpf::MEM, header), Step::Plain(bpf::LDX | bpf::MEM, payload)];
        let none = self.graph.block(steps, Test::Index(Compare::Equal));
        self.graph.and(none.not(), fragment)
    }
}
