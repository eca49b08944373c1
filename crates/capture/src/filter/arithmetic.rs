//! The calculations within an expression: `ip[2:2] - ((ip[0] & 0xf) << 2) > 40`.

use super::ast::{Arithmetic, Operand, Operation, Operator, Primitive, Relation, Term};
use super::error::Error;
use super::keyword::Keyword;
use super::lexer::Token;
use super::parser::{Parser, term};

/// How strongly a minus sign binds.
const NEGATION: u8 = 11;

/// How strongly an operator binds to its left and to its right.
fn binding(operator: Operator) -> (u8, u8) {
    match operator {
        Operator::Or => (1, 2),
        Operator::And => (3, 4),
        Operator::ShiftLeft | Operator::ShiftRight => (5, 6),
        Operator::Add | Operator::Subtract => (7, 8),
        Operator::Multiply | Operator::Divide => (9, 10),
        // No precedence in the grammar: read on, whatever comes.
        Operator::Remainder | Operator::Xor => (u8::MAX, 0),
    }
}

impl Parser {
    /// The operator that comes next.
    pub(super) fn operator(&self) -> Option<Operator> {
        let Token::Symbol(symbol) = self.peek() else { return None };
        Some(match *symbol {
            "+" => Operator::Add,
            "-" => Operator::Subtract,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "%" => Operator::Remainder,
            "&" => Operator::And,
            "|" => Operator::Or,
            "^" => Operator::Xor,
            "<<" => Operator::ShiftLeft,
            ">>" => Operator::ShiftRight,
            _ => return None,
        })
    }

    /// The comparison that comes next.
    pub(super) fn peek_relation(&self) -> Option<Relation> {
        let Token::Symbol(symbol) = self.peek() else { return None };
        Some(match *symbol {
            ">" => Relation::Greater,
            ">=" => Relation::GreaterOrEqual,
            "=" | "==" => Relation::Equal,
            "<=" => Relation::LessOrEqual,
            "<" => Relation::Less,
            "!=" => Relation::NotEqual,
            _ => return None,
        })
    }

    /// The comparison of a value that has been read with one that has not.
    pub(super) fn relation(&mut self, left: Arithmetic) -> Result<Term, Error> {
        let Some(relation) = self.peek_relation() else {
            return Err(self.unexpected("a comparison is missing before this"));
        };
        self.next();
        let right = self.arithmetic(0)?;
        let span = left.span.start..right.span.end;
        Ok(term(Primitive::Relation { left, relation, right }, span))
    }

    /// A calculation, as far as operators bind at least as strongly as `least`.
    pub(super) fn arithmetic(&mut self, least: u8) -> Result<Arithmetic, Error> {
        let start = self.span().start;
        let first = self.operand()?;
        self.arithmetic_from(first, start, least)
    }

    /// A calculation whose first operand has been read.
    pub(super) fn arithmetic_from(
        &mut self,
        first: Operand,
        start: usize,
        least: u8,
    ) -> Result<Arithmetic, Error> {
        let mut rest = Vec::new();
        while let Some(operator) = self.operator() {
            let (left, right) = binding(operator);
            if left < least {
                break;
            }
            self.next();
            self.enter()?;
            let operand = self.arithmetic(right)?;
            self.leave();
            rest.push(Operation { operator, operand });
        }
        Ok(Arithmetic { first, rest, span: start..self.last_end() })
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        let span = self.span();
        match *self.peek() {
            Token::Number(value) => {
                self.next();
                Ok(Operand::Number(value))
            }
            Token::Keyword(Keyword::Len) => {
                self.next();
                Ok(Operand::Length)
            }
            Token::Symbol("-") => {
                let mut negative = false;
                while self.take_symbol("-") {
                    negative = !negative;
                }
                self.enter()?;
                let value = Box::new(self.arithmetic(NEGATION)?);
                self.leave();
                Ok(if negative { Operand::Negative(value) } else { Operand::Nested(value) })
            }
            Token::Symbol("(") => {
                self.enter()?;
                self.next();
                let value = Box::new(self.arithmetic(0)?);
                if !self.take_symbol(")") {
                    return Err(self.unexpected("a closing parenthesis is missing before this"));
                }
                self.leave();
                Ok(Operand::Nested(value))
            }
            Token::Keyword(Keyword::Protocol(protocol)) => {
                self.next();
                if !self.take_symbol("[") {
                    return Err(self.unexpected("an index in brackets is missing before this"));
                }
                self.enter()?;
                let index = Box::new(self.arithmetic(0)?);
                self.leave();
                let mut size = 1;
                if self.take_symbol(":") {
                    let number = self.plain_number("how many bytes to read")?;
                    size = number.value;
                    if !matches!(size, 1 | 2 | 4) {
                        return Err(Error::new(number.span, "1, 2 or 4 bytes can be read at once"));
                    }
                }
                if !self.take_symbol("]") {
                    return Err(self.unexpected("a closing bracket is missing before this"));
                }
                Ok(Operand::Load { protocol, index, size, span: span.start..self.last_end() })
            }
            _ => Err(self.unexpected("a value is missing before this")),
        }
    }
}
