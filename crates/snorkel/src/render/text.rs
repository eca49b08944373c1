//! Text that came from elsewhere, made safe for a terminal.
//!
//! Names of containers, links and labels are their makers' to choose. A control character among them could move the
//! cursor, change the title or type an answer (ECMA-48 sequences; bidirectional overrides of Unicode UAX #9 can make a
//! name look like another). Each stands as an escape instead.

use std::borrow::Cow;

/// The text with every character that does more than to be shown as `\u{…}`, and line breaks likewise.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_active(c) { safe.extend(c.escape_default()) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

fn is_active(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_gets_through() {
        assert_eq!(printable("web\x1b]0;pwned\x07"), "web\\u{1b}]0;pwned\\u{7}");
        assert_eq!(printable("a\nb"), "a\\nb");
        assert_eq!(printable("\u{202e}gnp.exe"), "\\u{202e}gnp.exe");
        assert_eq!(printable("Übergröße-网"), "Übergröße-网");
    }
}
