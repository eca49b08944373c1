//! From a located target and the user's wishes to the steps of an entry.

pub(crate) mod invoker;
pub(crate) mod plan;
pub(crate) mod shell;
