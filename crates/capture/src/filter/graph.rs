//! The questions of a filter as a graph: each block loads something, compares it, and has a successor for each answer.
//!
//! Blocks are joined while they are made: a [`Fragment`] knows its entry and those of its answers that lead nowhere
//! yet, and `and`, `or` and `not` only tie these together, so that an expression of a hundred thousand terms needs no
//! recursion. The order in which packets are looked at is that of the expression. It matters: a load that goes beyond
//! the packet ends the whole program with "no".

use super::instruction as bpf;

/// A step before a comparison. All work on the accumulator A, the index X and the cells of scratch memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// A plain instruction: its code and operand.
    Plain(u16, u32),
    /// Ends the program with "no", as a load beyond the packet does.
    Fail,
    /// Ends the program with "no" if A is greater than this.
    FailAbove(u32),
    /// A: the last protocol in a chain of headers, or `wanted` if it comes before that. X is used up.
    Headers { v6: bool, network: u32, wanted: u32, cell: u32 },
}

/// Comparisons of A with a constant or with X.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Compare {
    Equal,
    Greater,
    GreaterOrEqual,
    /// Any of the operand's bits is set in A.
    AnyBit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// No comparison: the answer is yes.
    Always,
    Constant(Compare, u32),
    Index(Compare),
}

/// Where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Open,
    Block(u32),
    Accept,
    Reject,
}

#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) steps: Vec<Step>,
    pub(super) test: Test,
    /// Where to go if the comparison holds.
    pub(super) yes: Target,
    pub(super) no: Target,
}

impl Block {
    pub(super) fn target(&self, answer: bool) -> Target {
        if answer { self.yes } else { self.no }
    }

    pub(super) fn target_mut(&mut self, answer: bool) -> &mut Target {
        if answer { &mut self.yes } else { &mut self.no }
    }

    /// Whether running it changes scratch memory, or can do more than to fail or to answer.
    pub(super) fn has_effect(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Plain(code, _) => matches!(code & 0x07, bpf::ST | bpf::STX),
            Step::Headers { .. } => true,
            Step::Fail | Step::FailAbove(_) => false,
        })
    }
}

/// Part of a graph: where it begins, and the answers that lead nowhere yet.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) entry: u32,
    yes: Vec<(u32, bool)>,
    no: Vec<(u32, bool)>,
}

impl Fragment {
    /// The opposite.
    pub(super) fn not(mut self) -> Fragment {
        std::mem::swap(&mut self.yes, &mut self.no);
        self
    }
}

/// A graph in the making.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) blocks: Vec<Block>,
}

impl Graph {
    /// A block alone.
    pub(super) fn block(&mut self, steps: Vec<Step>, test: Test) -> Fragment {
        let entry = self.blocks.len() as u32;
        self.blocks.push(Block { steps, test, yes: Target::Open, no: Target::Open });
        let no = if test == Test::Always { Vec::new() } else { vec![(entry, false)] };
        Fragment { entry, yes: vec![(entry, true)], no }
    }

    /// A block that asks nothing, but does something.
    pub(super) fn act(&mut self, steps: Vec<Step>) -> Fragment {
        self.block(steps, Test::Always)
    }

    /// Whatever the packet is: this.
    pub(super) fn always(&mut self, answer: bool) -> Fragment {
        let block = self.block(Vec::new(), Test::Always);
        if answer { block } else { block.not() }
    }

    pub(super) fn and(&mut self, first: Fragment, second: Fragment) -> Fragment {
        self.tie(&first.yes, Target::Block(second.entry));
        Fragment { entry: first.entry, yes: second.yes, no: joined(first.no, second.no) }
    }

    pub(super) fn or(&mut self, first: Fragment, second: Fragment) -> Fragment {
        self.tie(&first.no, Target::Block(second.entry));
        Fragment { entry: first.entry, yes: joined(first.yes, second.yes), no: second.no }
    }

    /// If `question` then `yes` else `no`.
    pub(super) fn choose(&mut self, question: Fragment, yes: Fragment, no: Fragment) -> Fragment {
        self.tie(&question.yes, Target::Block(yes.entry));
        self.tie(&question.no, Target::Block(no.entry));
        Fragment { entry: question.entry, yes: joined(yes.yes, no.yes), no: joined(yes.no, no.no) }
    }

    /// Steps before everything that the fragment does.
    pub(super) fn prepend(&mut self, fragment: &Fragment, steps: &[Step]) {
        self.blocks[fragment.entry as usize].steps.splice(0..0, steps.iter().copied());
    }

    /// Ends the graph: what answers yes is accepted.
    pub(super) fn finish(&mut self, fragment: &Fragment) {
        self.tie(&fragment.yes, Target::Accept);
        self.tie(&fragment.no, Target::Reject);
    }

    fn tie(&mut self, ends: &[(u32, bool)], target: Target) {
        for (block, answer) in ends {
            *self.blocks[*block as usize].target_mut(*answer) = target;
        }
    }
}

/// Both lists in one; the longer one is not copied.
fn joined(mut one: Vec<(u32, bool)>, mut other: Vec<(u32, bool)>) -> Vec<(u32, bool)> {
    if one.len() < other.len() {
        std::mem::swap(&mut one, &mut other);
    }
    one.append(&mut other);
    one
}
