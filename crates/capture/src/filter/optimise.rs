//! Makes a graph smaller and its way through it shorter, without changing any answer.
//!
//! Two things are done. A question whose answer is known on the way to it is not asked again: of `host a or host b` the
//! second half begins with what the first half has found out. And what is in a register already is not loaded again.
//! Nothing that can fail is left out on a way where it has not succeeded before: a load beyond the packet means "no",
//! even if its value does not matter.

use std::collections::HashMap;

use super::graph::{Block, Compare, Graph, Step, Target, Test};
use super::instruction as bpf;

/// How many answers are remembered on the way to a block.
const REMEMBERED: usize = 16;

/// How many questions are skipped altogether before the search for further ones ends; an expression as long as a book
/// must not take as long to compile.
const SKIPPED: usize = 20_000_000;

/// What is known about a value: what the answer to a test of it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fact {
    value: u32,
    test: Test,
    answer: bool,
}

/// The values that blocks ask about; the same steps find out the same value.
struct Values {
    of_block: Vec<Option<u32>>,
    /// The cells of scratch memory that a value depends on, a bit for each.
    cells: Vec<u16>,
}

/// The blocks that can be reached, each after all that lead to it. An answer "yes" comes right after its question.
pub(super) fn order(graph: &Graph, entry: u32) -> Vec<u32> {
    let mut order = Vec::new();
    let mut seen = vec![false; graph.blocks.len()];
    let mut stack = vec![(entry, 0)];
    seen[entry as usize] = true;
    while let Some((block, visited)) = stack.pop() {
        let Block { yes, no, .. } = graph.blocks[block as usize];
        let next = match visited {
            0 => no,
            1 => yes,
            _ => {
                order.push(block);
                continue;
            }
        };
        stack.push((block, visited + 1));
        if let Target::Block(next) = next
            && !std::mem::replace(&mut seen[next as usize], true)
        {
            stack.push((next, 0));
        }
    }
    order.reverse();
    order
}

/// Optimises the graph; returns where it begins now.
pub(super) fn optimise(graph: &mut Graph, entry: u32) -> Target {
    for block in &mut graph.blocks {
        if block.steps.contains(&Step::Fail) {
            *block = Block { steps: Vec::new(), test: Test::Always, yes: Target::Reject, no: Target::Open };
        }
    }
    let values = values(graph);
    let entry = skip_known(graph, &values, entry);
    if let Target::Block(entry) = entry {
        keep_registers(graph, &values, entry);
    }
    entry
}

fn values(graph: &Graph) -> Values {
    let mut known: HashMap<&[Step], u32> = HashMap::new();
    let mut cells = Vec::new();
    let of_block = graph
        .blocks
        .iter()
        .map(|block| {
            if block.steps.is_empty() || block.has_effect() {
                return None;
            }
            Some(*known.entry(&block.steps).or_insert_with(|| {
                cells.push(block.steps.iter().fold(0, |read, step| read | cell_read(step)));
                cells.len() as u32 - 1
            }))
        })
        .collect();
    Values { of_block, cells }
}

/// The bit of the cell that a step reads.
fn cell_read(step: &Step) -> u16 {
    match step {
        Step::Plain(code, cell) if matches!(code & 0x07, bpf::LD | bpf::LDX) && code & 0xe0 == bpf::MEM => {
            1 << cell
        }
        _ => 0,
    }
}

/// The bits of the cells that steps write.
fn cells_written(steps: &[Step]) -> u16 {
    steps.iter().fold(0, |written, step| {
        written
            | match step {
                Step::Plain(code, cell) if matches!(code & 0x07, bpf::ST | bpf::STX) => 1 << cell,
                Step::Headers { cell, .. } => 1 << cell,
                _ => 0,
            }
    })
}

/// Leads every answer past the questions that it answers as well.
fn skip_known(graph: &mut Graph, values: &Values, entry: u32) -> Target {
    let mut budget = SKIPPED;
    let entry = skipped(graph, values, Target::Block(entry), &[], &mut budget);
    let Target::Block(first) = entry else { return entry };
    let mut arriving: Vec<Option<Vec<Fact>>> = vec![None; graph.blocks.len()];
    arriving[first as usize] = Some(Vec::new());
    for block in order(graph, first) {
        // A block that is passed by on all ways is not there any more.
        let Some(mut facts) = arriving[block as usize].take() else { continue };
        let written = cells_written(&graph.blocks[block as usize].steps);
        if written != 0 {
            facts.retain(|fact| values.cells[fact.value as usize] & written == 0);
        }
        let test = graph.blocks[block as usize].test;
        let answers: &[bool] = if test == Test::Always { &[true] } else { &[true, false] };
        for answer in answers {
            let mut facts = facts.clone();
            if test != Test::Always
                && let Some(value) = values.of_block[block as usize]
            {
                if facts.len() == REMEMBERED {
                    facts.remove(0);
                }
                facts.push(Fact { value, test, answer: *answer });
            }
            let target = graph.blocks[block as usize].target(*answer);
            let target = skipped(graph, values, target, &facts, &mut budget);
            *graph.blocks[block as usize].target_mut(*answer) = target;
            if let Target::Block(next) = target {
                match &mut arriving[next as usize] {
                    Some(known) => known.retain(|fact| facts.contains(fact)),
                    unknown => *unknown = Some(facts),
                }
            }
        }
        let block = &mut graph.blocks[block as usize];
        if block.test != Test::Always && block.yes == block.no {
            block.test = Test::Always;
            block.no = Target::Open;
        }
    }
    entry
}

/// Where a target leads if what is known is not asked.
fn skipped(graph: &Graph, values: &Values, mut target: Target, facts: &[Fact], budget: &mut usize) -> Target {
    while let Target::Block(next) = target {
        let block = &graph.blocks[next as usize];
        let answer = match (block.test, values.of_block[next as usize]) {
            (Test::Always, _) if block.steps.is_empty() => Some(true),
            (Test::Always, _) | (_, None) => None,
            (test, Some(value)) => {
                facts.iter().rev().filter(|fact| fact.value == value).find_map(|f| f.answers(test))
            }
        };
        let (Some(answer), 1..) = (answer, *budget) else { break };
        *budget -= 1;
        target = block.target(answer);
    }
    target
}

impl Fact {
    /// The answer to another test of the same value, if it follows.
    fn answers(&self, test: Test) -> Option<bool> {
        if self.test == test {
            return Some(self.answer);
        }
        let (Test::Constant(known, with), Test::Constant(asked, operand)) = (self.test, test) else {
            return None;
        };
        match (known, self.answer, asked) {
            (Compare::Equal, true, Compare::Equal) => Some(with == operand),
            (Compare::Equal, true, Compare::Greater) => Some(with > operand),
            (Compare::Equal, true, Compare::GreaterOrEqual) => Some(with >= operand),
            (Compare::Equal, true, Compare::AnyBit) => Some(with & operand != 0),
            (Compare::Greater, false, Compare::Equal) if operand > with => Some(false),
            (Compare::Greater, true, Compare::Equal) if operand <= with => Some(false),
            (Compare::GreaterOrEqual, false, Compare::Equal) if operand >= with => Some(false),
            (Compare::GreaterOrEqual, true, Compare::Equal) if operand < with => Some(false),
            _ => None,
        }
    }
}

/// What is in the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Registers {
    a: Option<u32>,
    x: Option<Step>,
}

/// Leaves out loads of what is in A or X on all ways to a block.
fn keep_registers(graph: &mut Graph, values: &Values, entry: u32) {
    let mut arriving: Vec<Option<Registers>> = vec![None; graph.blocks.len()];
    arriving[entry as usize] = Some(Registers { a: None, x: None });
    for block in order(graph, entry) {
        let Some(registers) = arriving[block as usize] else { continue };
        let value = values.of_block[block as usize];
        let block = &mut graph.blocks[block as usize];
        let mut leaving = registers;
        if value.is_some() && value == registers.a && !matches!(block.test, Test::Index(_)) {
            block.steps.clear();
        } else if !block.steps.is_empty() {
            leaving = Registers { a: value, x: index_after(&block.steps, registers.x) };
            if registers.x.is_some() && registers.x == block.steps.first().copied() {
                block.steps.remove(0);
            }
        }
        for target in [block.yes, block.no] {
            let Target::Block(next) = target else { continue };
            let merged = match arriving[next as usize] {
                None => leaving,
                Some(known) => Registers {
                    a: known.a.filter(|_| known.a == leaving.a),
                    x: known.x.filter(|_| known.x == leaving.x),
                },
            };
            arriving[next as usize] = Some(merged);
        }
    }
}

/// What is in X after the steps: the load that put it there, if it can be repeated.
fn index_after(steps: &[Step], before: Option<Step>) -> Option<Step> {
    let mut index = before;
    for step in steps {
        match step {
            Step::Plain(code, _) if code & 0x07 == bpf::LDX => index = Some(*step),
            Step::Plain(code, _) if *code == bpf::MISC | bpf::TAX => index = None,
            Step::Headers { .. } => index = None,
            _ => {
                let written = cells_written(std::slice::from_ref(step));
                index = index.filter(|load| cell_read(load) & written == 0);
            }
        }
    }
    index
}
