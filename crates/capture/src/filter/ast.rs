//! What an expression says, word for word; what it means for a packet is found out in [`super::lower`].

use std::net::Ipv6Addr;
use std::ops::Range;

use super::keyword::Protocol;

/// The bytes of the expression that a part of it was read from.
pub(super) type Span = Range<usize>;

/// How two terms are joined. Both bind equally strongly, from left to right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    And,
    Or,
}

/// Terms joined by `and` and `or`.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) first: Term,
    pub(super) rest: Vec<(Joint, Term)>,
}

/// A question to a packet, or its opposite.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) negated: bool,
    pub(super) kind: TermKind,
}

#[derive(Debug)]
pub(super) enum TermKind {
    /// In parentheses.
    Group(Box<Chain>),
    Primitive(Box<Primitive>, Span),
}

/// A single question.
#[derive(Debug)]
pub(super) enum Primitive {
    /// `tcp dst port 80`
    Qualified(Qualifiers, Id),
    /// `tcp`
    Protocol(Protocol),
    /// `tcp[13] & 2 != 0`
    Relation {
        left: Arithmetic,
        relation: Relation,
        right: Arithmetic,
    },
    Broadcast(Option<Protocol>),
    Multicast(Option<Protocol>),
    Less(u32),
    Greater(u32),
    Byte {
        index: u32,
        test: ByteTest,
        value: u32,
    },
    Inbound,
    Outbound,
    IfIndex(u32),
    Vlan(Option<Number>),
    Mpls(Option<Number>),
    Pppoed,
    Pppoes(Option<Number>),
    Geneve(Option<Number>),
    Llc(LlcKind),
}

/// A number, and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Number {
    pub(super) value: u32,
    pub(super) span: Span,
}

/// What stands before a name, an address or a number, and says how it is meant.
#[derive(Debug, Clone)]
pub(super) struct Qualifiers {
    pub(super) protocol: Option<Protocol>,
    pub(super) direction: Direction,
    pub(super) kind: Kind,
    pub(super) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// None was given; it means [`Direction::Either`] where there are directions.
    Unsaid,
    Src,
    Dst,
    Either,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// None was given; it means a host.
    Unsaid,
    Host,
    Net,
    Port,
    PortRange,
    Proto,
    ProtoChain,
    Gateway,
}

/// What the qualifiers are about.
#[derive(Debug)]
pub(super) enum Id {
    Name(String),
    Number(u32),
    /// `10.1` or `10.1.2.3`
    Dotted(String),
    /// `10.1/16`
    Prefix(String, u32),
    /// `10.1 mask 255.255.0.0`
    Mask(String, String),
    V6(Ipv6Addr),
    V6Prefix(Ipv6Addr, u32),
    Hardware([u8; 6]),
    Arcnet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Greater,
    GreaterOrEqual,
    Equal,
    LessOrEqual,
    Less,
    NotEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteTest {
    And,
    Or,
    Less,
    Greater,
    Equal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LlcKind {
    Any,
    Information,
    Supervisory,
    Unnumbered,
    /// A supervisory frame with this code.
    SupervisoryOf(u32),
    /// An unnumbered frame with this code.
    UnnumberedOf(u32),
}

/// A calculation: a value, then operations on it. The operands of a long sum lie side by side, not one in the other, so
/// that the nesting is never deeper than that of the parentheses (and of `%` and `^`, see the parser).
#[derive(Debug)]
pub(super) struct Arithmetic {
    pub(super) first: Operand,
    pub(super) rest: Vec<Operation>,
    pub(super) span: Span,
}

#[derive(Debug)]
pub(super) struct Operation {
    pub(super) operator: Operator,
    pub(super) operand: Arithmetic,
}

#[derive(Debug)]
pub(super) enum Operand {
    Number(u32),
    Length,
    Negative(Box<Arithmetic>),
    Nested(Box<Arithmetic>),
    Load { protocol: Protocol, index: Box<Arithmetic>, size: u32, span: Span },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}
