//! The kernel's bpf: the programs that are loaded there, and what of it this kernel and these rights allow.
//!
//! The programs are C (`c/`), compiled into objects that are committed (`objects/`, `make bpf`) and carried in the binary.
//! What is attached is held by descriptors: it goes with them, or with the process.
//!
//! Every question about the kernel ([`probe`]) is answered by trying, never by its version: distributions carry features
//! back and leave them out. What is tried is a program of two instructions that does nothing, attached at most for a
//! moment and only in a private network namespace that goes with the question.

mod btf;
mod clsact;
mod error;
pub mod gate;
mod link;
mod object;
pub mod probe;
mod sys;

pub use btf::Kind;
pub use error::{Error, Result};
