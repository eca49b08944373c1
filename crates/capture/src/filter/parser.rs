//! From words to what they say.
//!
//! The language is that of libpcap's grammar, and its corners are kept: `and` and `or` bind equally strongly; a name
//! without qualifiers takes those of the term before it (`port 80 or 443`), but not across a term that has none; a
//! number in parentheses may be a port, a value or the beginning of either; `%` and `^` take everything to their right,
//! because the grammar gives them no precedence and its generator then prefers to read on.

use super::ast::{Chain, Id, Joint, Number, Primitive, Qualifiers, Span, Term, TermKind};
use super::error::Error;
use super::keyword::Keyword;
use super::lexer::{Token, Word};

/// How deeply parentheses and minus signs may be nested.
const NESTING: usize = 200;

/// A parser of an expression's words.
pub(super) struct Parser {
    words: Vec<Word>,
    at: usize,
    depth: usize,
}

/// The qualifiers that a term leaves to those after it.
pub(super) type Inherited = Option<Qualifiers>;

/// What stood between two parentheses.
enum Group {
    Number(Number),
    Value(super::ast::Arithmetic),
    /// Names and numbers for the qualifiers before.
    Ids(Term),
    Terms(Term),
}

impl Parser {
    pub(super) fn new(words: Vec<Word>) -> Parser {
        Parser { words, at: 0, depth: 0 }
    }

    /// The whole expression; nothing if it is empty.
    pub(super) fn expression(&mut self) -> Result<Option<Chain>, Error> {
        if self.peek() == &Token::End {
            return Ok(None);
        }
        let (first, inherited, _) = self.element(false, &None)?;
        let chain = self.chain(first, inherited)?;
        if self.peek() != &Token::End {
            return Err(self.unexpected("'and' or 'or' is missing before this"));
        }
        Ok(Some(chain))
    }

    pub(super) fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        self.words.get(self.at + ahead).map_or(&Token::End, |word| &word.token)
    }

    pub(super) fn span(&self) -> Span {
        // The last word is the end, and nothing goes past it.
        self.words.get(self.at).or(self.words.last()).map_or(0..0, |word| word.span.clone())
    }

    /// Where the word before the next one ends.
    pub(super) fn last_end(&self) -> usize {
        self.at.checked_sub(1).map_or(0, |at| self.words[at].span.end)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let is = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        self.at += usize::from(is);
        is
    }

    pub(super) fn take_keyword(&mut self, keyword: Keyword) -> bool {
        let is = self.peek() == &Token::Keyword(keyword);
        self.at += usize::from(is);
        is
    }

    /// The error that the next word is, `why` if there is one and something else if there is none.
    pub(super) fn unexpected(&self, why: &str) -> Error {
        let message = if self.peek() == &Token::End { "the expression ends too early" } else { why };
        Error::new(self.span(), message)
    }

    /// One level deeper into the nesting, until [`Parser::leave`].
    pub(super) fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > NESTING {
            return Err(Error::new(self.span(), format!("nested more than {NESTING} levels deep")));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn joint(&mut self) -> Option<Joint> {
        let joint = match self.peek() {
            Token::Keyword(Keyword::And) | Token::Symbol("&&") => Joint::And,
            Token::Keyword(Keyword::Or) | Token::Symbol("||") => Joint::Or,
            _ => return None,
        };
        self.at += 1;
        Some(joint)
    }

    /// Whether an odd number of `not` and `!` stands here; they are taken. The second value: whether there were any.
    fn negations(&mut self) -> (bool, bool) {
        let before = self.at;
        let mut negated = false;
        while self.take_keyword(Keyword::Not) || self.take_symbol("!") {
            negated = !negated;
        }
        (negated, self.at != before)
    }

    /// The terms after the first.
    fn chain(&mut self, first: Term, mut inherited: Inherited) -> Result<Chain, Error> {
        let mut rest = Vec::new();
        while let Some(joint) = self.joint() {
            let (term, left, _) = self.element(true, &inherited)?;
            inherited = left;
            rest.push((joint, term));
        }
        Ok(Chain { first, rest })
    }

    /// One term. Where `allow_id` is set it may be a name or a number alone, which `inherited` then qualify. Returned
    /// are the term, the qualifiers that it leaves, and whether it was such a name.
    fn element(&mut self, allow_id: bool, inherited: &Inherited) -> Result<(Term, Inherited, bool), Error> {
        let (negated, _) = self.negations();
        let start = self.span().start;
        let (mut term, left, is_id) = match self.peek() {
            Token::Symbol("(") => match self.group(true, allow_id, inherited)? {
                Group::Number(number) => self.number(number, allow_id, inherited, start)?,
                Group::Value(value) => {
                    let value =
                        self.arithmetic_from(super::ast::Operand::Nested(Box::new(value)), start, 0)?;
                    (self.relation(value)?, None, false)
                }
                Group::Ids(term) => (term, inherited.clone(), true),
                Group::Terms(term) => (term, inherited.clone(), false),
            },
            Token::Number(value) => {
                let number = Number { value: *value, span: self.span() };
                self.at += 1;
                self.number(number, allow_id, inherited, start)?
            }
            token if is_name(token) => {
                if !allow_id {
                    return Err(
                        self.unexpected("a qualifier such as host, net or port is missing before this")
                    );
                }
                (self.id(inherited)?, inherited.clone(), true)
            }
            _ => {
                let (term, left) = self.term()?;
                (term, left, false)
            }
        };
        term.negated ^= negated;
        Ok((term, left, is_id))
    }

    /// What begins with a number: a relation, or the number for the qualifiers before.
    fn number(
        &mut self,
        number: Number,
        allow_id: bool,
        inherited: &Inherited,
        start: usize,
    ) -> Result<(Term, Inherited, bool), Error> {
        if self.operator().is_some() || self.peek_relation().is_some() {
            let value = self.arithmetic_from(super::ast::Operand::Number(number.value), start, 0)?;
            return Ok((self.relation(value)?, None, false));
        }
        if !allow_id {
            return Err(Error::new(
                number.span,
                "a number alone says nothing: a qualifier or a comparison is missing",
            ));
        }
        Ok((qualified(inherited, Id::Number(number.value), number.span)?, inherited.clone(), true))
    }

    /// Parentheses and what is between them: terms where `terms` is set, names and numbers where `ids` is.
    fn group(&mut self, terms: bool, ids: bool, inherited: &Inherited) -> Result<Group, Error> {
        self.enter()?;
        self.at += 1;
        let start = self.span().start;
        let first = match self.peek() {
            Token::Symbol("(") => self.group(terms, false, inherited)?,
            Token::Number(value) => {
                let number = Number { value: *value, span: self.span() };
                self.at += 1;
                Group::Number(number)
            }
            token if is_name(token) => {
                if !ids {
                    return Err(
                        self.unexpected("a qualifier such as host, net or port is missing before this")
                    );
                }
                Group::Ids(self.id(inherited)?)
            }
            Token::Keyword(Keyword::Not) | Token::Symbol("!") if !terms => Group::Ids(self.id(inherited)?),
            Token::Keyword(Keyword::Not) | Token::Symbol("!") => {
                let (term, left, is_id) = self.element(ids, inherited)?;
                if is_id { Group::Ids(term) } else { self.terms(term, left)? }
            }
            _ if terms => match self.value_or_term()? {
                Ok(value) => Group::Value(value),
                Err((term, left)) => self.terms(term, left)?,
            },
            _ => return Err(self.unexpected("a name, an address or a number is missing before this")),
        };
        let group = match first {
            // Parentheses around a number may be closed, or the number is the first of several, or of a calculation.
            Group::Number(number) => {
                if self.operator().is_some() || self.peek_relation().is_some() {
                    if !terms {
                        return Err(self.unexpected("nothing is calculated here"));
                    }
                    let value = self.arithmetic_from(super::ast::Operand::Number(number.value), start, 0)?;
                    self.value(value)?
                } else if ids && self.peek() != &Token::Symbol(")") {
                    let first = qualified(inherited, Id::Number(number.value), number.span)?;
                    self.ids(first, inherited)?
                } else {
                    Group::Number(number)
                }
            }
            Group::Value(value) => {
                let value = self.arithmetic_from(super::ast::Operand::Nested(Box::new(value)), start, 0)?;
                self.value(value)?
            }
            Group::Ids(first) => self.ids(first, inherited)?,
            Group::Terms(Term { negated: false, kind: TermKind::Group(chain) })
                if self.peek() == &Token::Symbol(")") =>
            {
                Group::Terms(Term { negated: false, kind: TermKind::Group(chain) })
            }
            // The inner parentheses were the first of several terms; they leave what was inherited.
            Group::Terms(first) => self.terms(first, inherited.clone())?,
        };
        if !self.take_symbol(")") {
            return Err(self.unexpected("a closing parenthesis is missing before this"));
        }
        self.leave();
        Ok(group)
    }

    /// The rest of the names after the first.
    fn ids(&mut self, first: Term, inherited: &Inherited) -> Result<Group, Error> {
        let mut rest = Vec::new();
        while let Some(joint) = self.joint() {
            rest.push((joint, self.id(inherited)?));
        }
        Ok(Group::Ids(grouped(Chain { first, rest })))
    }

    /// The rest of the terms after the first.
    fn terms(&mut self, first: Term, left: Inherited) -> Result<Group, Error> {
        Ok(Group::Terms(grouped(self.chain(first, left)?)))
    }

    /// What a value within parentheses is: a value, or the beginning of a relation and perhaps more terms.
    fn value(&mut self, value: super::ast::Arithmetic) -> Result<Group, Error> {
        if self.peek_relation().is_some() {
            let term = self.relation(value)?;
            return self.terms(term, None);
        }
        Ok(Group::Value(value))
    }

    /// A name, an address or a number that `inherited` qualify, perhaps several in parentheses.
    pub(super) fn id(&mut self, inherited: &Inherited) -> Result<Term, Error> {
        let (negated, _) = self.negations();
        let span = self.span();
        let mut term = match self.peek() {
            Token::Symbol("(") => match self.group(false, true, inherited)? {
                Group::Number(number) => qualified(inherited, Id::Number(number.value), number.span)?,
                Group::Ids(term) | Group::Terms(term) => term,
                Group::Value(value) => return Err(Error::new(value.span, "nothing is calculated here")),
            },
            Token::Number(value) => {
                let id = Id::Number(*value);
                self.at += 1;
                qualified(inherited, id, span)?
            }
            token if is_name(token) => {
                let id = self.name()?;
                let span = span.start..self.last_end();
                qualified(inherited, id, span)?
            }
            _ => return Err(self.unexpected("a name, an address or a number is missing before this")),
        };
        term.negated ^= negated;
        Ok(term)
    }

    /// A name or an address, with its mask.
    fn name(&mut self) -> Result<Id, Error> {
        Ok(match self.next() {
            Token::Name(name) => Id::Name(name),
            Token::Dotted(text) => {
                if self.take_symbol("/") {
                    Id::Prefix(text, self.plain_number("the length of the mask")?.value)
                } else if self.take_keyword(Keyword::Mask) {
                    let Token::Dotted(mask) = self.peek() else {
                        return Err(self.unexpected("a mask such as 255.255.0.0 is missing before this"));
                    };
                    let mask = mask.clone();
                    self.at += 1;
                    Id::Mask(text, mask)
                } else {
                    Id::Dotted(text)
                }
            }
            Token::V6(address) => {
                if self.take_symbol("/") {
                    Id::V6Prefix(address, self.plain_number("the length of the prefix")?.value)
                } else {
                    Id::V6(address)
                }
            }
            Token::Hardware(address) => Id::Hardware(address),
            _ => Id::Arcnet,
        })
    }

    /// A number without parentheses.
    pub(super) fn plain_number(&mut self, what: &str) -> Result<Number, Error> {
        let span = self.span();
        let Token::Number(value) = *self.peek() else {
            return Err(self.unexpected(&format!("{what} is missing before this: a number")));
        };
        self.at += 1;
        Ok(Number { value, span })
    }

    /// A number, perhaps in parentheses, if there is one.
    pub(super) fn optional_number(&mut self) -> Result<Option<Number>, Error> {
        let mut open = 0;
        while self.take_symbol("(") {
            open += 1;
        }
        if open == 0 && !matches!(self.peek(), Token::Number(_)) {
            return Ok(None);
        }
        let number = self.plain_number("the number")?;
        for _ in 0..open {
            if !self.take_symbol(")") {
                return Err(self.unexpected("a closing parenthesis is missing before this"));
            }
        }
        Ok(Some(number))
    }
}

fn is_name(token: &Token) -> bool {
    matches!(token, Token::Name(_) | Token::Dotted(_) | Token::V6(_) | Token::Hardware(_) | Token::Arcnet)
}

pub(super) fn term(primitive: Primitive, span: Span) -> Term {
    Term { negated: false, kind: TermKind::Primitive(Box::new(primitive), span) }
}

fn grouped(chain: Chain) -> Term {
    Term { negated: false, kind: TermKind::Group(Box::new(chain)) }
}

/// The term of a name and the qualifiers that it inherits, if there are any.
fn qualified(inherited: &Inherited, id: Id, span: Span) -> Result<Term, Error> {
    let Some(qualifiers) = inherited else {
        return Err(Error::new(span, "a qualifier such as host, net or port is missing before this"));
    };
    Ok(term(Primitive::Qualified(qualifiers.clone(), id), span))
}
