//! Why a filter was refused, and which of its words is to blame.

use std::fmt;
use std::ops::Range;

/// A filter that was refused.
///
/// Displayed alone it is one line. [`Error::render`] shows the expression with the offending word marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The bytes of the expression that are to blame; empty at its end if something is missing there.
    pub span: Range<usize>,
    /// What is wrong with them: one line, no full stop.
    pub message: String,
}

impl Error {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Error {
        Error { span, message: message.into() }
    }

    /// The expression, carets under the offending word, and what is wrong with it: three lines without the last line
    /// break. `text` is the expression that was compiled; of a long one the part around the word is shown.
    pub fn render(&self, text: &str) -> String {
        const BEFORE: usize = 60;
        const AFTER: usize = 40;

        let start = floor_boundary(text, self.span.start);
        let end = floor_boundary(text, self.span.end).max(start);
        let from = floor_boundary(text, start.saturating_sub(BEFORE));
        // A word may itself be long: what is shown of it ends with the window.
        let marked = floor_boundary(text, end.min(start + BEFORE)).max(start);
        let to = floor_boundary(text, marked + AFTER).max(marked);

        // A line break or a tab within the expression would shift the carets: each character takes one column.
        let column = |c: char| if c.is_control() { ' ' } else { c };
        let mut shown = String::new();
        let mut carets = String::new();
        if from > 0 {
            shown.push('…');
            carets.push(' ');
        }
        shown.extend(text[from..to].chars().map(column));
        if to < text.len() {
            shown.push('…');
        }
        carets.extend(text[from..start].chars().map(|_| ' '));
        carets.extend(text[start..marked].chars().map(|_| '^'));
        if start == marked {
            carets.push('^');
        }
        format!("  {shown}\n  {carets}\n{}", self.message)
    }
}

/// A word for a message, cut off if it is as long as no word should be.
pub(super) fn brief(word: &str) -> String {
    const LONGEST: usize = 64;
    if word.len() <= LONGEST {
        word.to_owned()
    } else {
        format!("{}…", &word[..floor_boundary(word, LONGEST)])
    }
}

/// The last boundary between characters that is not after `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter: {}", self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_is_marked() {
        let error = Error::new(9..12, "unknown port \"htp\"");
        assert_eq!(
            error.render("tcp port htp and ip"),
            "  tcp port htp and ip\n           ^^^\nunknown port \"htp\""
        );
    }

    #[test]
    fn the_end_is_marked_where_something_is_missing() {
        let error = Error::new(4..4, "a name is missing");
        assert_eq!(error.render("host"), "  host\n      ^\na name is missing");
    }

    #[test]
    fn of_a_long_expression_the_part_around_the_word_is_shown() {
        let text = format!("{}wrong{}", "host ä or\n".repeat(1000), " or host b".repeat(1000));
        let at = text.find("wrong").expect("it is there");
        let shown = Error::new(at..at + 5, "no").render(&text);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 3);
        let column = lines[1].chars().take_while(|c| *c == ' ').count();
        let marked: String = lines[0].chars().skip(column).take(5).collect();
        assert_eq!(marked, "wrong");
        assert!(lines[0].chars().count() < 120);
    }

    #[test]
    fn a_span_outside_of_the_text_does_no_harm() {
        assert_eq!(Error::new(7..90, "no").render("ä"), "  ä\n   ^\nno");
    }
}
