//! The terms that begin with a word: a protocol, a qualifier, `vlan`, `less` and so on.

use super::ast::{ByteTest, Direction, Joint, Kind, LlcKind, Primitive, Qualifiers, Span, Term};
use super::error::Error;
use super::keyword::{Foreign, Keyword, Protocol};
use super::lexer::Token;
use super::parser::{Inherited, Parser, term};

impl Parser {
    /// A term that does not begin with a name, a number or a parenthesis.
    pub(super) fn term(&mut self) -> Result<(Term, Inherited), Error> {
        match self.value_or_term()? {
            Ok(value) => Ok((self.relation(value)?, None)),
            Err(term) => Ok(term),
        }
    }

    /// As [`Parser::term`], but of a relation only its left side is read.
    pub(super) fn value_or_term(
        &mut self,
    ) -> Result<Result<super::ast::Arithmetic, (Term, Inherited)>, Error> {
        let start = self.span().start;
        let token = self.peek().clone();
        let primitive = match token {
            Token::Symbol("-") | Token::Keyword(Keyword::Len) => return Ok(Ok(self.arithmetic(0)?)),
            Token::Keyword(Keyword::Protocol(_)) if self.peek_at(1) == &Token::Symbol("[") => {
                return Ok(Ok(self.arithmetic(0)?));
            }
            Token::Keyword(Keyword::Protocol(protocol)) => {
                self.next();
                return Ok(Err(self.after_protocol(Some(protocol), start)?));
            }
            Token::Keyword(
                Keyword::Src
                | Keyword::Dst
                | Keyword::WirelessAddress
                | Keyword::Host
                | Keyword::Net
                | Keyword::Port
                | Keyword::PortRange
                | Keyword::Proto
                | Keyword::ProtoChain
                | Keyword::Gateway
                | Keyword::Broadcast
                | Keyword::Multicast
                | Keyword::Type
                | Keyword::Subtype
                | Keyword::Dir,
            ) => return Ok(Err(self.after_protocol(None, start)?)),
            Token::Keyword(keyword) => {
                let span = self.span();
                self.next();
                self.keyword_term(keyword, span)?
            }
            _ => return Err(self.unexpected("a term cannot begin with this")),
        };
        Ok(Err((term(primitive, start..self.last_end()), None)))
    }

    /// A term that begins with a word of its own.
    fn keyword_term(&mut self, keyword: Keyword, span: Span) -> Result<Primitive, Error> {
        Ok(match keyword {
            Keyword::Less => Primitive::Less(self.plain_number("the length")?.value),
            Keyword::Greater => Primitive::Greater(self.plain_number("the length")?.value),
            Keyword::Byte => {
                let index = self.plain_number("the byte's place")?.value;
                let test = match self.peek() {
                    Token::Symbol("&") => ByteTest::And,
                    Token::Symbol("|") => ByteTest::Or,
                    Token::Symbol("<") => ByteTest::Less,
                    Token::Symbol(">") => ByteTest::Greater,
                    Token::Symbol("=" | "==") => ByteTest::Equal,
                    _ => return Err(self.unexpected("one of & | < > = is missing before this")),
                };
                self.next();
                Primitive::Byte { index, test, value: self.plain_number("the byte's value")?.value }
            }
            Keyword::Inbound => Primitive::Inbound,
            Keyword::Outbound => Primitive::Outbound,
            Keyword::IfIndex => Primitive::IfIndex(self.plain_number("the link's number")?.value),
            Keyword::Vlan => Primitive::Vlan(self.optional_number()?),
            Keyword::Mpls => Primitive::Mpls(self.optional_number()?),
            Keyword::Pppoed => Primitive::Pppoed,
            Keyword::Pppoes => Primitive::Pppoes(self.optional_number()?),
            Keyword::Geneve => Primitive::Geneve(self.optional_number()?),
            Keyword::Llc => Primitive::Llc(self.llc()?),
            Keyword::Rnr | Keyword::Foreign(Foreign::Pf) => {
                return Err(Error::new(span, "only the log of BSD's packet filter knows this"));
            }
            Keyword::Foreign(Foreign::Atm) => return Err(Error::new(span, "only ATM has this")),
            Keyword::Foreign(Foreign::Ss7) => return Err(Error::new(span, "only SS7 (MTP2, MTP3) has this")),
            _ => return Err(Error::new(span, "a term cannot begin with this")),
        })
    }

    /// The kind of LLC frame after `llc`.
    fn llc(&mut self) -> Result<LlcKind, Error> {
        if self.take_keyword(Keyword::Rnr) {
            return Ok(LlcKind::SupervisoryOf(0x05));
        }
        let Token::Name(name) = self.peek() else { return Ok(LlcKind::Any) };
        // The numbers are the control fields of IEEE 802.2.
        let kind = match name.to_ascii_lowercase().as_str() {
            "i" => LlcKind::Information,
            "s" => LlcKind::Supervisory,
            "u" => LlcKind::Unnumbered,
            "rr" => LlcKind::SupervisoryOf(0x01),
            "rnr" => LlcKind::SupervisoryOf(0x05),
            "rej" => LlcKind::SupervisoryOf(0x09),
            "ui" => LlcKind::UnnumberedOf(0x03),
            "ua" => LlcKind::UnnumberedOf(0x63),
            "disc" => LlcKind::UnnumberedOf(0x43),
            "dm" => LlcKind::UnnumberedOf(0x0f),
            "sabme" => LlcKind::UnnumberedOf(0x6f),
            "test" => LlcKind::UnnumberedOf(0xe3),
            "xid" => LlcKind::UnnumberedOf(0xaf),
            "frmr" => LlcKind::UnnumberedOf(0x87),
            _ => return Err(self.unexpected("this is no kind of LLC frame")),
        };
        self.next();
        Ok(kind)
    }

    /// A term whose protocol has been read, or has been left out.
    fn after_protocol(
        &mut self,
        protocol: Option<Protocol>,
        start: usize,
    ) -> Result<(Term, Inherited), Error> {
        const WIRELESS: &str = "only wireless (802.11) frames have this";
        let Token::Keyword(keyword) = *self.peek() else { return self.bare_protocol(protocol, start) };
        let mut direction = Direction::Unsaid;
        let kind = match keyword {
            Keyword::Broadcast | Keyword::Multicast => {
                self.next();
                let primitive = if keyword == Keyword::Broadcast {
                    Primitive::Broadcast(protocol)
                } else {
                    Primitive::Multicast(protocol)
                };
                return Ok((term(primitive, start..self.last_end()), None));
            }
            Keyword::Type | Keyword::Subtype | Keyword::Dir | Keyword::WirelessAddress => {
                return Err(self.unexpected(WIRELESS));
            }
            Keyword::Src | Keyword::Dst => {
                direction = self.direction(keyword)?;
                match self.peek() {
                    Token::Keyword(Keyword::Host) => Kind::Host,
                    Token::Keyword(Keyword::Net) => Kind::Net,
                    Token::Keyword(Keyword::Port) => Kind::Port,
                    Token::Keyword(Keyword::PortRange) => Kind::PortRange,
                    _ => Kind::Unsaid,
                }
            }
            Keyword::Host => Kind::Host,
            Keyword::Net => Kind::Net,
            Keyword::Port => Kind::Port,
            Keyword::PortRange => Kind::PortRange,
            Keyword::Proto => Kind::Proto,
            Keyword::ProtoChain => Kind::ProtoChain,
            Keyword::Gateway => Kind::Gateway,
            _ => return self.bare_protocol(protocol, start),
        };
        if kind != Kind::Unsaid {
            self.next();
        }
        let qualifiers = Some(Qualifiers { protocol, direction, kind, span: start..self.last_end() });
        let term = self.id(&qualifiers)?;
        Ok((term, qualifiers))
    }

    /// A protocol that nothing follows which would belong to it.
    fn bare_protocol(&self, protocol: Option<Protocol>, start: usize) -> Result<(Term, Inherited), Error> {
        match protocol {
            Some(protocol) => Ok((term(Primitive::Protocol(protocol), start..self.last_end()), None)),
            None => Err(self.unexpected("a term cannot begin with this")),
        }
    }

    /// `src`, `dst`, or both of them.
    fn direction(&mut self, first: Keyword) -> Result<Direction, Error> {
        self.next();
        let Some(joint) = self.joint() else {
            return Ok(if first == Keyword::Src { Direction::Src } else { Direction::Dst });
        };
        let other = if first == Keyword::Src { Keyword::Dst } else { Keyword::Src };
        if !self.take_keyword(other) {
            let missing = if first == Keyword::Src {
                "'dst' is missing before this"
            } else {
                "'src' is missing before this"
            };
            return Err(self.unexpected(missing));
        }
        Ok(if joint == Joint::And { Direction::Both } else { Direction::Either })
    }
}
