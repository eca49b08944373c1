//! The kernel's bpf: what of it this kernel and these rights allow.
//!
//! Every question is answered by trying, never by the kernel's version: distributions carry features back and leave
//! them out. What is tried is a program of two instructions that does nothing, attached at most for a moment and only
//! in a private network namespace that goes with the question.

mod btf;
pub mod probe;
mod sys;
pub mod tap;

pub use btf::Kind;
