//! What the words mean for a packet: from the expression to a graph of questions.
//!
//! Each question is the one that libpcap 1.10's `gencode.c` asks, in the same order. The tests compare both on every
//! kind of packet; the places where libpcap's own answer is an accident are listed in the documentation of
//! [`crate::filter`].

mod address;
mod encapsulation;
mod frame;
mod layout;
mod link;
mod port;
mod protocol;
mod value;

use super::ast::{Chain, Id, Joint, Kind, Primitive, Qualifiers, Span, Term, TermKind};
use super::error::{Error, brief};
use super::graph::{Compare, Fragment, Graph, Step, Test};
use super::instruction as bpf;
use super::{Mode, Options};
use layout::{Base, Layout, Offset};

/// The graph of an expression, and the block that it begins with.
pub(super) fn lower(chain: &Chain, options: &Options<'_>) -> Result<(Graph, u32), Error> {
    let Some(layout) = Layout::of(options.link_type) else {
        return Err(Error::new(0..0, format!("packets of type {} cannot be filtered", options.link_type)));
    };
    let mut lowering = Lowering {
        options,
        graph: Graph::default(),
        layout,
        span: 0..0,
        cells: 0,
        scratch: bpf::CELLS as u32,
        initial: Vec::new(),
    };
    let fragment = lowering.chain(chain)?;
    lowering.graph.finish(&fragment);
    if lowering.initial.is_empty() {
        return Ok((lowering.graph, fragment.entry));
    }
    // Cells that some way through the graph may read before it has written them.
    let mut steps = vec![Step::Plain(bpf::LD | bpf::IMM, 0)];
    steps.extend(lowering.initial.iter().map(|cell| Step::Plain(bpf::ST, *cell)));
    let first = lowering.graph.act(steps);
    let whole = lowering.graph.and(first, fragment);
    Ok((lowering.graph, whole.entry))
}

/// The state of the translation.
struct Lowering<'a> {
    options: &'a Options<'a>,
    graph: Graph,
    layout: Layout,
    /// The term that is being translated.
    span: Span,
    /// Cells of scratch memory that hold offsets: those below this.
    cells: u32,
    /// Cells that calculations have used: those from this on.
    scratch: u32,
    /// Cells that have to be 0 in the beginning.
    initial: Vec<u32>,
}

impl Lowering<'_> {
    /// The error that the current term is.
    fn error(&self, message: impl Into<String>) -> Error {
        Error::new(self.span.clone(), message)
    }

    fn chain(&mut self, chain: &Chain) -> Result<Fragment, Error> {
        let mut fragment = self.term(&chain.first)?;
        for (joint, term) in &chain.rest {
            let next = self.term(term)?;
            fragment = match joint {
                Joint::And => self.graph.and(fragment, next),
                Joint::Or => self.graph.or(fragment, next),
            };
        }
        Ok(fragment)
    }

    fn term(&mut self, term: &Term) -> Result<Fragment, Error> {
        let fragment = match &term.kind {
            TermKind::Group(chain) => self.chain(chain)?,
            TermKind::Primitive(primitive, span) => {
                self.span = span.clone();
                self.primitive(primitive)?
            }
        };
        Ok(if term.negated { fragment.not() } else { fragment })
    }

    fn primitive(&mut self, primitive: &Primitive) -> Result<Fragment, Error> {
        match primitive {
            Primitive::Qualified(qualifiers, id) => self.qualified(qualifiers, id),
            Primitive::Protocol(protocol) => self.protocol(*protocol),
            Primitive::Relation { left, relation, right } => self.relation(left, *relation, right),
            Primitive::Broadcast(protocol) => self.broadcast(*protocol),
            Primitive::Multicast(protocol) => self.multicast(*protocol),
            Primitive::Less(length) => Ok(self.longer_than(*length).not()),
            Primitive::Greater(length) => Ok(self.at_least_as_long_as(*length)),
            Primitive::Byte { index, test, value } => Ok(self.byte(*index, *test, *value)),
            Primitive::Inbound => self.outbound().map(Fragment::not),
            Primitive::Outbound => self.outbound(),
            Primitive::IfIndex(index) => self.link_index(*index),
            Primitive::Vlan(number) => self.vlan(number.as_ref()),
            Primitive::Mpls(label) => self.mpls(label.as_ref()),
            Primitive::Pppoed => self.link_type(link::ETHERTYPE_PPPOE_DISCOVERY),
            Primitive::Pppoes(session) => self.pppoe_session(session.as_ref()),
            Primitive::Geneve(network) => self.geneve(network.as_ref()),
            Primitive::Llc(kind) => self.llc(*kind),
        }
    }

    fn qualified(&mut self, qualifiers: &Qualifiers, id: &Id) -> Result<Fragment, Error> {
        match (qualifiers.kind, id) {
            (_, Id::Arcnet) => Err(self.error("only ARCnet has such addresses")),
            (Kind::Proto, Id::Name(_) | Id::Number(_)) => self.proto(qualifiers, id),
            (Kind::ProtoChain, Id::Name(_) | Id::Number(_)) => self.proto_chain(qualifiers, id),
            (Kind::Port, Id::Name(_) | Id::Number(_)) => self.port(qualifiers, id),
            (Kind::PortRange, Id::Name(_) | Id::Number(_)) => self.port_range(qualifiers, id),
            _ => self.address(qualifiers, id),
        }
    }

    /// A cell for an offset.
    fn cell(&mut self) -> Result<u32, Error> {
        if self.cells + 1 >= self.scratch {
            return Err(self.error("too many headers of variable length before this"));
        }
        self.cells += 1;
        Ok(self.cells - 1)
    }

    /// Steps that load `size` (`W`, `H` or `B`) bytes into A.
    fn load(&self, base: Base, offset: u32, size: u16) -> Vec<Step> {
        let layout = &self.layout;
        let at = |from: Offset, more: u32| {
            let k = from.constant.wrapping_add(more).wrapping_add(offset);
            match from.cell {
                Some(cell) => {
                    vec![Step::Plain(bpf::LDX | bpf::MEM, cell), Step::Plain(bpf::LD | bpf::IND | size, k)]
                }
                None => vec![absolute(size, k)],
            }
        };
        match base {
            Base::LinkHeader => at(layout.header, 0),
            Base::LinkPayload => at(layout.payload, 0),
            // Without such a field nothing asks for it.
            Base::LinkType => at(layout.protocol.unwrap_or(Offset::fixed(0)), 0),
            Base::Network => at(layout.payload, layout.network),
            Base::NetworkAfterLlc => at(layout.payload, layout.network_after_llc),
            Base::LastLabel => at(layout.payload, layout.network.wrapping_sub(4)),
            Base::TransportV4 => {
                let mut steps = self.transport_index();
                let k = layout.payload.constant.wrapping_add(layout.network).wrapping_add(offset);
                steps.push(Step::Plain(bpf::LD | bpf::IND | size, k));
                steps
            }
            Base::TransportV6 => at(layout.payload, layout.network + 40),
        }
    }

    /// Steps that load the length of the IPv4 header into X, and what is variable of the offset before it.
    fn transport_index(&self) -> Vec<Step> {
        let k = self.layout.payload.constant.wrapping_add(self.layout.network);
        match self.layout.payload.cell {
            None => vec![Step::Plain(bpf::LDX | bpf::MSH | bpf::B, k)],
            Some(cell) => vec![
                Step::Plain(bpf::LDX | bpf::MEM, cell),
                Step::Plain(bpf::LD | bpf::IND | bpf::B, k),
                Step::Plain(bpf::ALU | bpf::AND | bpf::K, 0xf),
                Step::Plain(bpf::ALU | bpf::LSH | bpf::K, 2),
                Step::Plain(bpf::ALU | bpf::ADD | bpf::X, 0),
                Step::Plain(bpf::MISC | bpf::TAX, 0),
            ],
        }
    }

    /// Whether a field compares so with a value.
    fn compare(&mut self, base: Base, offset: u32, size: u16, compare: Compare, value: u32) -> Fragment {
        let steps = self.load(base, offset, size);
        self.graph.block(steps, Test::Constant(compare, value))
    }

    /// Whether a field has a value.
    fn equals(&mut self, base: Base, offset: u32, size: u16, value: u32) -> Fragment {
        self.compare(base, offset, size, Compare::Equal, value)
    }

    /// Whether those bits of a field that are in the mask have a value.
    fn masked(&mut self, base: Base, offset: u32, size: u16, value: u32, mask: u32) -> Fragment {
        let mut steps = self.load(base, offset, size);
        if mask != u32::MAX {
            steps.push(Step::Plain(bpf::ALU | bpf::AND | bpf::K, mask));
        }
        self.graph.block(steps, Test::Constant(Compare::Equal, value))
    }

    /// Whether several bytes have these values.
    fn bytes(&mut self, base: Base, offset: u32, values: &[u8]) -> Fragment {
        let mut fragment: Option<Fragment> = None;
        let mut end = values.len();
        // From the last bytes to the first: those of an address differ there.
        while end > 0 {
            let (length, size) = match end {
                4.. => (4, bpf::W),
                2.. => (2, bpf::H),
                _ => (1, bpf::B),
            };
            let value = values[end - length..end].iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
            end -= length;
            let next = self.equals(base, offset.wrapping_add(end as u32), size, value);
            fragment = Some(match fragment {
                Some(fragment) => self.graph.and(fragment, next),
                None => next,
            });
        }
        fragment.unwrap_or_else(|| self.graph.always(true))
    }

    /// Whether any of them holds, tried from left to right.
    fn any(&mut self, fragments: impl IntoIterator<Item = Fragment>) -> Fragment {
        let mut fragments = fragments.into_iter();
        let Some(mut all) = fragments.next() else { return self.graph.always(false) };
        for fragment in fragments {
            all = self.graph.or(all, fragment);
        }
        all
    }

    fn is_file(&self) -> bool {
        self.options.mode == Mode::File
    }
}

/// Steps that load from a fixed place. Places beyond any packet must not become the kernel's ancillary data, which has
/// the same numbers.
fn absolute(size: u16, k: u32) -> Step {
    if k >= 0x7fff_ffff { Step::Fail } else { Step::Plain(bpf::LD | bpf::ABS | size, k) }
}
