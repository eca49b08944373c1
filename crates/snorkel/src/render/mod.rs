//! What is printed, made of the same values that `--json` prints.

pub(crate) mod capture;
pub(crate) mod faults;
pub(crate) mod flows;
pub(crate) mod screen;
pub(crate) mod snapshot;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod tap;
pub(crate) mod text;
pub(crate) mod which;
