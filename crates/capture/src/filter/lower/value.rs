//! Calculations and comparisons: `tcp[tcpflags] & (tcp-syn|tcp-fin) != 0`.
//!
//! A value of a protocol is only there if the packet is of that protocol; such a condition goes before the comparison.
//! As in libpcap, the conditions of the right operand of a calculation (not of a comparison) are not looked at: in
//! `1 + tcp[0] = 5` any packet's bytes are taken for TCP's.

use super::*;
use crate::filter::ast::{Arithmetic, Operand, Operator, Relation};
use crate::filter::keyword::Protocol;

/// The cells of a calculation, counted from here until it is known which they are.
const SCRATCH: u32 = 0x100;

/// An index that is larger than this is beyond any packet, and is never made smaller by adding the length of a header.
const FARTHEST: u32 = 0x3fff_ffff;

/// How a value is found out: steps that leave it in A.
struct Value {
    steps: Vec<Step>,
    /// The value, if it is the same for all packets; then there are no steps.
    constant: Option<u32>,
    /// What must be true of a packet for the value to be there.
    condition: Option<Fragment>,
    /// Cells of scratch memory that the steps use.
    cells: u32,
}

impl Value {
    fn constant(value: u32) -> Value {
        Value { steps: Vec::new(), constant: Some(value), condition: None, cells: 0 }
    }

    fn is_constant(&self) -> Option<u32> {
        self.constant
    }
}

impl Lowering<'_> {
    pub(super) fn relation(
        &mut self,
        left: &Arithmetic,
        relation: Relation,
        right: &Arithmetic,
    ) -> Result<Fragment, Error> {
        let mut left = self.value(left)?;
        let mut right = self.value(right)?;
        let condition = match (left.condition.take(), right.condition.take()) {
            (Some(one), Some(other)) => Some(self.graph.and(one, other)),
            (one, other) => one.or(other),
        };
        let compared = match (left.is_constant(), right.is_constant()) {
            (Some(left), Some(right)) => {
                let holds = match relation {
                    Relation::Greater => left > right,
                    Relation::GreaterOrEqual => left >= right,
                    Relation::Equal => left == right,
                    Relation::LessOrEqual => left <= right,
                    Relation::Less => left < right,
                    Relation::NotEqual => left != right,
                };
                self.graph.always(holds)
            }
            (None, Some(right)) => {
                let (compare, opposite) = test(relation);
                self.compared(left, compare, right, opposite)?
            }
            (Some(left), None) => {
                let (compare, opposite) = test(mirrored(relation));
                self.compared(right, compare, left, opposite)?
            }
            (None, None) => {
                let (compare, opposite) = test(relation);
                let steps = self.both(left, right)?.steps;
                let steps = self.placed(steps)?;
                let block = self.graph.block(steps, Test::Index(compare));
                if opposite { block.not() } else { block }
            }
        };
        Ok(match condition {
            Some(condition) => self.graph.and(condition, compared),
            None => compared,
        })
    }

    /// The comparison of a value with a constant.
    fn compared(
        &mut self,
        value: Value,
        compare: Compare,
        with: u32,
        opposite: bool,
    ) -> Result<Fragment, Error> {
        let mut steps = self.placed(value.steps)?;
        // Whether bits of a mask are set is one instruction.
        if compare == Compare::Equal
            && with == 0
            && let Some(Step::Plain(code, mask)) = steps.last().copied()
            && code == bpf::ALU | bpf::AND | bpf::K
        {
            steps.pop();
            let any = self.graph.block(steps, Test::Constant(Compare::AnyBit, mask));
            return Ok(if opposite { any } else { any.not() });
        }
        let block = self.graph.block(steps, Test::Constant(compare, with));
        Ok(if opposite { block.not() } else { block })
    }

    /// The steps with their cells in their places: the last ones.
    fn placed(&mut self, mut steps: Vec<Step>) -> Result<Vec<Step>, Error> {
        for step in &mut steps {
            if !is_scratch(*step) {
                continue;
            }
            if let Step::Plain(_, k) = step {
                let cell =
                    (bpf::CELLS as u32).checked_sub(1 + *k - SCRATCH).filter(|cell| *cell >= self.cells);
                let Some(cell) = cell else {
                    return Err(self.error("this calculation needs too many values at once"));
                };
                *k = cell;
                self.scratch = self.scratch.min(cell);
            }
        }
        Ok(steps)
    }

    fn value(&mut self, arithmetic: &Arithmetic) -> Result<Value, Error> {
        let mut value = self.operand(&arithmetic.first)?;
        for operation in &arithmetic.rest {
            value = self.calculated(value, operation.operator, &operation.operand)?;
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand) -> Result<Value, Error> {
        Ok(match operand {
            Operand::Number(number) => Value::constant(*number),
            Operand::Length => Value {
                steps: vec![Step::Plain(bpf::LD | bpf::W | bpf::LEN, 0)],
                constant: None,
                condition: None,
                cells: 0,
            },
            Operand::Nested(arithmetic) => self.value(arithmetic)?,
            Operand::Negative(arithmetic) => {
                let mut value = self.value(arithmetic)?;
                match &mut value.constant {
                    Some(constant) => *constant = constant.wrapping_neg(),
                    None => value.steps.push(Step::Plain(bpf::ALU | bpf::NEG, 0)),
                }
                value
            }
            Operand::Load { protocol, index, size, span } => {
                let index = self.value(index)?;
                let size = match size {
                    1 => bpf::B,
                    2 => bpf::H,
                    _ => bpf::W,
                };
                let outer = std::mem::replace(&mut self.span, span.clone());
                let value = self.loaded(*protocol, index, size)?;
                self.span = outer;
                value
            }
        })
    }

    fn calculated(&mut self, left: Value, operator: Operator, operand: &Arithmetic) -> Result<Value, Error> {
        let right = self.value(operand)?;
        let wrong = |message: &str| Err(Error::new(operand.span.clone(), message));
        match (operator, right.is_constant()) {
            (Operator::Divide | Operator::Remainder, Some(0)) => return wrong("this divides by 0"),
            (Operator::ShiftLeft | Operator::ShiftRight, Some(32..))
                if matches!(operand.first, Operand::Number(32..)) =>
            {
                return wrong("this shifts by more than 31 bits");
            }
            _ => {}
        }
        let code = match operator {
            Operator::Add => bpf::ADD,
            Operator::Subtract => bpf::SUB,
            Operator::Multiply => bpf::MUL,
            Operator::Divide => bpf::DIV,
            Operator::Remainder => bpf::MOD,
            Operator::And => bpf::AND,
            Operator::Or => bpf::OR,
            Operator::Xor => bpf::XOR,
            Operator::ShiftLeft => bpf::LSH,
            Operator::ShiftRight => bpf::RSH,
        };
        let commutes = matches!(
            operator,
            Operator::Add | Operator::Multiply | Operator::And | Operator::Or | Operator::Xor
        );
        Ok(match (left.is_constant(), right.is_constant()) {
            (Some(left), Some(right)) => Value::constant(folded(operator, left, right)),
            (None, Some(right)) => {
                let mut value = left;
                value.steps.push(match (operator, right) {
                    // No bit is left.
                    (Operator::ShiftLeft | Operator::ShiftRight, 32..) => Step::Plain(bpf::LD | bpf::IMM, 0),
                    _ => Step::Plain(bpf::ALU | code | bpf::K, right),
                });
                value
            }
            (Some(left), None) => {
                let mut value = right;
                // The condition of a right operand is not looked at.
                value.condition = None;
                if commutes {
                    value.steps.push(Step::Plain(bpf::ALU | code | bpf::K, left));
                } else {
                    value.steps.extend([
                        Step::Plain(bpf::MISC | bpf::TAX, 0),
                        Step::Plain(bpf::LD | bpf::IMM, left),
                        Step::Plain(bpf::ALU | code | bpf::X, 0),
                    ]);
                }
                value
            }
            (None, None) => {
                let mut value = self.both(left, right)?;
                value.steps.push(Step::Plain(bpf::ALU | code | bpf::X, 0));
                value
            }
        })
    }

    /// The left value in A and the right one in X. The one that needs more cells goes first: which one it is makes no
    /// difference, as a load that fails ends everything.
    fn both(&mut self, left: Value, right: Value) -> Result<Value, Error> {
        let condition = left.condition;
        let (mut steps, cells);
        if left.cells >= right.cells {
            cells = left.cells.max(right.cells + 1);
            steps = left.steps;
            steps.push(Step::Plain(bpf::ST, SCRATCH));
            steps.extend(right.steps.into_iter().map(shifted));
            steps.push(Step::Plain(bpf::MISC | bpf::TAX, 0));
            steps.push(Step::Plain(bpf::LD | bpf::MEM, SCRATCH));
        } else {
            cells = right.cells.max(left.cells + 1);
            steps = right.steps;
            steps.push(Step::Plain(bpf::ST, SCRATCH));
            steps.extend(left.steps.into_iter().map(shifted));
            steps.push(Step::Plain(bpf::LDX | bpf::MEM, SCRATCH));
        }
        if cells > bpf::CELLS as u32 {
            return Err(self.error("this calculation needs too many values at once"));
        }
        Ok(Value { steps, constant: None, condition, cells })
    }

    /// Some bytes of a protocol's header or payload.
    fn loaded(&mut self, protocol: Protocol, mut index: Value, size: u16) -> Result<Value, Error> {
        use Protocol as P;
        let inner = index.condition.take();
        let network = self.layout.payload.constant.wrapping_add(self.layout.network);
        match protocol {
            P::Link => {
                let mut value = self.loaded_at(self.layout.header, index, size);
                value.condition = inner;
                Ok(value)
            }
            P::Ip
            | P::Arp
            | P::Rarp
            | P::Atalk
            | P::Decnet
            | P::Sca
            | P::Lat
            | P::Moprc
            | P::Mopdl
            | P::Ip6 => {
                let from = Offset { constant: network, cell: self.layout.payload.cell };
                let mut value = self.loaded_at(from, index, size);
                let typed = self.protocol(protocol)?;
                value.condition = Some(self.after(inner, typed));
                Ok(value)
            }
            P::Icmp6 => {
                let from = Offset { constant: network.wrapping_add(40), cell: self.layout.payload.cell };
                let mut value = self.loaded_at(from, index, size);
                let typed = self.link_type(link::ETHERTYPE_IP6)?;
                let typed = self.after(inner, typed);
                let next = self.equals(Base::Network, 6, bpf::B, 58);
                value.condition = Some(self.graph.and(typed, next));
                Ok(value)
            }
            P::Sctp | P::Tcp | P::Udp | P::Icmp | P::Igmp | P::Igrp | P::Pim | P::Vrrp | P::Carp => {
                let mut value = self.loaded_behind_ip(index, network, size);
                let v4 = self.link_type(link::ETHERTYPE_IP)?;
                let typed = self.protocol(protocol)?;
                let first = self.first_fragment();
                let typed = self.graph.and(typed, first);
                let typed = self.after(inner, typed);
                value.condition = Some(self.graph.and(v4, typed));
                Ok(value)
            }
            _ => Err(self.error("this protocol's bytes cannot be looked at")),
        }
    }

    fn after(&mut self, first: Option<Fragment>, second: Fragment) -> Fragment {
        match first {
            Some(first) => self.graph.and(first, second),
            None => second,
        }
    }

    /// Bytes of a header that begins at an offset.
    fn loaded_at(&mut self, from: Offset, index: Value, size: u16) -> Value {
        let mut value = index;
        let load = bpf::LD | bpf::IND | size;
        match (value.constant.take(), from.cell) {
            (Some(index), None) => {
                let k = u64::from(from.constant) + u64::from(index);
                value.steps = vec![u32::try_from(k).map_or(Step::Fail, |k| absolute(size, k))];
            }
            (Some(index), Some(cell)) => {
                value.steps.push(Step::Plain(bpf::LDX | bpf::MEM, cell));
                self.load_from_x(&mut value.steps, index, from.constant, load);
            }
            (None, None) => {
                self.bound(&mut value.steps);
                value.steps.extend([Step::Plain(bpf::MISC | bpf::TAX, 0), Step::Plain(load, from.constant)]);
            }
            (None, Some(cell)) => {
                value.steps.extend([
                    Step::Plain(bpf::LDX | bpf::MEM, cell),
                    Step::Plain(bpf::ALU | bpf::ADD | bpf::X, 0),
                ]);
                self.bound(&mut value.steps);
                value.steps.extend([Step::Plain(bpf::MISC | bpf::TAX, 0), Step::Plain(load, from.constant)]);
            }
        }
        value
    }

    /// Bytes behind an IPv4 header and its options.
    fn loaded_behind_ip(&mut self, index: Value, network: u32, size: u16) -> Value {
        let mut value = index;
        let load = bpf::LD | bpf::IND | size;
        let length = self.transport_index();
        if let Some(index) = value.constant.take() {
            value.steps.extend(length);
            self.load_from_x(&mut value.steps, index, network, load);
            return value;
        }
        if length.len() == 1 {
            value.steps.extend(length);
        } else {
            // Finding out the length takes A as well.
            value.cells = value.cells.max(1);
            value.steps.push(Step::Plain(bpf::ST, SCRATCH));
            value.steps.extend(length);
            value.steps.push(Step::Plain(bpf::LD | bpf::MEM, SCRATCH));
        }
        value.steps.push(Step::Plain(bpf::ALU | bpf::ADD | bpf::X, 0));
        self.bound(&mut value.steps);
        value.steps.extend([Step::Plain(bpf::MISC | bpf::TAX, 0), Step::Plain(load, network)]);
        value
    }

    /// A load at X, an index and a constant. X and the index are added with 32 bits: an index such as -1 lies before
    /// the header that X leads to.
    fn load_from_x(&mut self, steps: &mut Vec<Step>, index: u32, constant: u32, load: u16) {
        if index <= FARTHEST && constant <= FARTHEST {
            steps.push(Step::Plain(load, constant + index));
            return;
        }
        steps.extend([Step::Plain(bpf::LD | bpf::IMM, index), Step::Plain(bpf::ALU | bpf::ADD | bpf::X, 0)]);
        self.bound(steps);
        steps.extend([Step::Plain(bpf::MISC | bpf::TAX, 0), Step::Plain(load, constant)]);
    }

    /// The kernel takes an offset with the highest bit set for a negative one, which leads to other places; here it is
    /// beyond the packet.
    fn bound(&self, steps: &mut Vec<Step>) {
        if !self.is_file() {
            steps.push(Step::FailAbove(FARTHEST));
        }
    }
}

/// Whether a step uses a cell of the calculation.
fn is_scratch(step: Step) -> bool {
    match step {
        Step::Plain(code, k) => {
            k >= SCRATCH
                && (matches!(code & 0x07, bpf::ST | bpf::STX)
                    || matches!(code & 0x07, bpf::LD | bpf::LDX) && code & 0xe0 == bpf::MEM)
        }
        _ => false,
    }
}

/// The step with the cell after the one that it used.
fn shifted(step: Step) -> Step {
    match step {
        Step::Plain(code, k) if is_scratch(step) => Step::Plain(code, k + 1),
        step => step,
    }
}

/// The comparison that a relation is, and whether it is the opposite of it.
fn test(relation: Relation) -> (Compare, bool) {
    match relation {
        Relation::Greater => (Compare::Greater, false),
        Relation::GreaterOrEqual => (Compare::GreaterOrEqual, false),
        Relation::Equal => (Compare::Equal, false),
        Relation::LessOrEqual => (Compare::Greater, true),
        Relation::Less => (Compare::GreaterOrEqual, true),
        Relation::NotEqual => (Compare::Equal, true),
    }
}

/// The same relation with the sides changed.
fn mirrored(relation: Relation) -> Relation {
    match relation {
        Relation::Greater => Relation::Less,
        Relation::GreaterOrEqual => Relation::LessOrEqual,
        Relation::LessOrEqual => Relation::GreaterOrEqual,
        Relation::Less => Relation::Greater,
        same => same,
    }
}

/// The result for two constants. Dividing by 0 has been refused.
fn folded(operator: Operator, left: u32, right: u32) -> u32 {
    match operator {
        Operator::Add => left.wrapping_add(right),
        Operator::Subtract => left.wrapping_sub(right),
        Operator::Multiply => left.wrapping_mul(right),
        Operator::Divide => left.checked_div(right).unwrap_or(0),
        Operator::Remainder => left.checked_rem(right).unwrap_or(0),
        Operator::And => left & right,
        Operator::Or => left | right,
        Operator::Xor => left ^ right,
        Operator::ShiftLeft => left.checked_shl(right).unwrap_or(0),
        Operator::ShiftRight => left.checked_shr(right).unwrap_or(0),
    }
}
