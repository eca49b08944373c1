//! Expressions, good and bad. Whether they are good depends on the link: libpcap decides.

/// One a line.
const EXPRESSIONS: &str = include_str!("expressions.txt");

pub(crate) fn expressions() -> Vec<&'static str> {
    EXPRESSIONS.lines().filter(|line| !line.starts_with("# ")).collect()
}
