//! From the graph to classic BPF's instructions.
//!
//! A conditional jump skips 255 instructions at most; where its target is farther away it leads to an unconditional
//! one, which has room for any distance. All jumps go forward, as the kernel demands, except those of a chain of
//! headers (`protochain`).

use super::graph::{Compare, Graph, Step, Target, Test};
use super::instruction::{self as bpf, Instruction, plain};
use super::optimise::order;

/// The instructions of a graph. What is accepted returns `snaplen`.
pub(super) fn emit(graph: &Graph, entry: Target, snaplen: u32) -> Vec<Instruction> {
    let accept = plain(bpf::RET | bpf::K, snaplen);
    let reject = plain(bpf::RET | bpf::K, 0);
    let Target::Block(entry) = entry else {
        return vec![if entry == Target::Accept { accept } else { reject }];
    };
    let order = order(graph, entry);
    let mut program = Program {
        graph,
        following: order.iter().skip(1).map(|block| Target::Block(*block)).chain([Target::Accept]).collect(),
        start: vec![0; graph.blocks.len()],
        far: vec![[false; 2]; order.len()],
        accept: 0,
        order,
    };
    // Each round finds the jumps that do not reach their targets; what they need moves others farther away.
    while program.measure() {}
    let mut instructions = program.instructions();
    instructions.extend([accept, reject]);
    instructions
}

struct Program<'a> {
    graph: &'a Graph,
    order: Vec<u32>,
    /// What comes right after each block, in the order.
    following: Vec<Target>,
    /// Where each block begins.
    start: Vec<usize>,
    /// Whether the jumps for "yes" and "no" need an instruction of their own, in the order.
    far: Vec<[bool; 2]>,
    accept: usize,
}

impl Program<'_> {
    fn at(&self, target: Target) -> usize {
        match target {
            Target::Block(block) => self.start[block as usize],
            Target::Accept => self.accept,
            Target::Reject | Target::Open => self.accept + 1,
        }
    }

    /// Finds out where everything is; whether that made a jump too long that was not known to be.
    fn measure(&mut self) -> bool {
        let mut at = 0;
        let mut jumps = Vec::with_capacity(self.order.len());
        for (index, block) in self.order.iter().enumerate() {
            self.start[*block as usize] = at;
            let block = &self.graph.blocks[*block as usize];
            at += block.steps.iter().map(length).sum::<usize>();
            jumps.push(at);
            at += match block.test {
                Test::Always => usize::from(block.yes != self.following[index]),
                _ => 1 + self.far[index].iter().filter(|far| **far).count(),
            };
        }
        self.accept = at;
        let mut changed = false;
        for (index, block) in self.order.iter().enumerate() {
            let block = &self.graph.blocks[*block as usize];
            if block.test == Test::Always {
                continue;
            }
            for (answer, target) in [block.yes, block.no].into_iter().enumerate() {
                if !self.far[index][answer] && self.at(target) - (jumps[index] + 1) > usize::from(u8::MAX) {
                    self.far[index][answer] = true;
                    changed = true;
                }
            }
        }
        changed
    }

    fn instructions(&self) -> Vec<Instruction> {
        let mut code = Vec::with_capacity(self.accept + 2);
        for (index, block) in self.order.iter().enumerate() {
            let block = &self.graph.blocks[*block as usize];
            for step in &block.steps {
                self.step(*step, &mut code);
            }
            let (jump, k) = match block.test {
                Test::Always => {
                    if block.yes != self.following[index] {
                        let skip = self.at(block.yes) - (code.len() + 1);
                        code.push(plain(bpf::JMP | bpf::JA, skip as u32));
                    }
                    continue;
                }
                Test::Constant(compare, k) => (bpf::JMP | operation(compare) | bpf::K, k),
                Test::Index(compare) => (bpf::JMP | operation(compare) | bpf::X, 0),
            };
            let [far_yes, far_no] = self.far[index];
            let at = code.len();
            // A distance that is too long has been found out before: what remains fits.
            let near = |target: Target| u8::try_from(self.at(target) - (at + 1)).unwrap_or(u8::MAX);
            code.push(Instruction {
                code: jump,
                jt: if far_yes { 0 } else { near(block.yes) },
                jf: if far_no { u8::from(far_yes) } else { near(block.no) },
                k,
            });
            for (far, target) in [(far_yes, block.yes), (far_no, block.no)] {
                if far {
                    let skip = self.at(target) - (code.len() + 1);
                    code.push(plain(bpf::JMP | bpf::JA, skip as u32));
                }
            }
        }
        code
    }

    fn step(&self, step: Step, code: &mut Vec<Instruction>) {
        let reject = |at: usize| plain(bpf::JMP | bpf::JA, (self.accept + 1 - (at + 1)) as u32);
        match step {
            Step::Plain(operation, k) => code.push(plain(operation, k)),
            Step::Fail => code.push(reject(code.len())),
            Step::FailAbove(limit) => {
                code.push(Instruction { code: bpf::JMP | bpf::JGT | bpf::K, jt: 0, jf: 1, k: limit });
                code.push(reject(code.len()));
            }
            Step::Headers { v6, network, wanted, cell } => code.extend(headers(v6, network, wanted, cell)),
        }
    }
}

fn length(step: &Step) -> usize {
    match step {
        Step::Plain(..) | Step::Fail => 1,
        Step::FailAbove(_) => 2,
        Step::Headers { v6, network, wanted, cell } => headers(*v6, *network, *wanted, *cell).len(),
    }
}

fn operation(compare: Compare) -> u16 {
    match compare {
        Compare::Equal => bpf::JEQ,
        Compare::Greater => bpf::JGT,
        Compare::GreaterOrEqual => bpf::JGE,
        Compare::AnyBit => bpf::JSET,
    }
}

/// Follows a chain of headers until the wanted protocol, one that does not lead on, or the end of the packet.
///
/// It is libpcap's way of following, with what is odd about it: behind an authentication header it goes on at the
/// header's length from the beginning of the packet, not from the header.
fn headers(v6: bool, network: u32, wanted: u32, cell: u32) -> Vec<Instruction> {
    const HOP_BY_HOP: u32 = 0;
    const ROUTING: u32 = 43;
    const FRAGMENT: u32 = 44;
    const AUTHENTICATION: u32 = 51;
    const NONE: u32 = 59;
    const DESTINATION: u32 = 60;

    let jump = |k: u32, jt: u8, jf: u8| Instruction { code: bpf::JMP | bpf::JEQ | bpf::K, jt, jf, k };
    let byte = bpf::LD | bpf::IND | bpf::B;
    let mut code = Vec::new();
    if v6 {
        code.push(plain(bpf::LD | bpf::ABS | bpf::B, network + 6));
        code.push(plain(bpf::LDX | bpf::IMM, 40));
    } else {
        code.push(plain(bpf::LD | bpf::ABS | bpf::B, network + 9));
        code.push(plain(bpf::LDX | bpf::MSH | bpf::B, network));
    }
    let again = code.len();
    let back = |at: usize| plain(bpf::JMP | bpf::JA, (again as u32).wrapping_sub(at as u32 + 1));
    // How many instructions a jump here skips to get to the end.
    let (to_end, advance) = if v6 { (23, 9) } else { (10, 0) };
    code.push(jump(wanted, to_end, 0));
    code.push(jump(NONE, to_end - 1, 0));
    if v6 {
        code.push(jump(HOP_BY_HOP, 3, 0));
        code.push(jump(DESTINATION, 2, 0));
        code.push(jump(ROUTING, 1, 0));
        code.push(jump(FRAGMENT, 0, advance));
        code.extend([
            plain(byte, network),
            plain(bpf::ST, cell),
            plain(byte, network + 1),
            plain(bpf::ALU | bpf::ADD | bpf::K, 1),
            plain(bpf::ALU | bpf::MUL | bpf::K, 8),
            plain(bpf::ALU | bpf::ADD | bpf::X, 0),
            plain(bpf::MISC | bpf::TAX, 0),
            plain(bpf::LD | bpf::MEM, cell),
        ]);
        code.push(back(code.len()));
    }
    code.push(jump(AUTHENTICATION, 0, 8));
    code.extend([
        plain(byte, network),
        plain(bpf::ST, cell),
        plain(byte, network + 1),
        plain(bpf::ALU | bpf::ADD | bpf::K, 2),
        plain(bpf::ALU | bpf::MUL | bpf::K, 4),
        plain(bpf::MISC | bpf::TAX, 0),
        plain(bpf::LD | bpf::MEM, cell),
    ]);
    code.push(back(code.len()));
    code
}
