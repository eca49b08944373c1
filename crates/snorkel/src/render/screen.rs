//! A picture that is drawn over the one before it: without clearing first, so that nothing flickers, and never larger
//! than the terminal, so that nothing wraps or scrolls (ECMA-48: CUP, EL, ED).

use unicode_width::UnicodeWidthChar;

/// How much a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// Of the terminal on stdout; none if it is no terminal, or one that does not know.
    pub(crate) fn of_stdout() -> Option<Size> {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        let size = Size { columns: usize::from(size.ws_col), rows: usize::from(size.ws_row) };
        (size.columns > 0 && size.rows > 0).then_some(size)
    }
}

/// What to write so that the terminal shows these lines and nothing else.
pub(crate) fn picture(text: &str, size: Size) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (shown, rest) = match lines.len() > size.rows {
        true => lines.split_at(size.rows - 1),
        false => (&lines[..], &[][..]),
    };
    let more = (!rest.is_empty()).then(|| format!("… {} more lines", rest.len()));
    let all = shown.iter().copied().chain(more.as_deref());
    let mut out = String::from("\x1b[H");
    let mut row = 0;
    for line in all {
        let (line, width) = cut(line, size.columns);
        out.push_str(&line);
        // Behind a character in the last column the cursor still stands on it.
        if width < size.columns {
            out.push_str("\x1b[K");
        }
        row += 1;
        // A line break in the last row would scroll.
        if row < size.rows {
            out.push('\n');
        }
    }
    if row < size.rows {
        out.push_str("\x1b[J");
    }
    out
}

/// As much of the line as fits, and how wide that is. Colours take no room; one that is cut off ends there.
fn cut(line: &str, columns: usize) -> (String, usize) {
    let mut out = String::new();
    let (mut width, mut coloured) = (0, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // "ESC [ … m", as `style` writes it.
            coloured = true;
            out.push(c);
            out.extend(chars.by_ref().take_while(|c| *c != 'm'));
            out.push('m');
            continue;
        }
        let wide = c.width().unwrap_or(0);
        if width + wide > columns {
            break;
        }
        width += wide;
        out.push(c);
    }
    if coloured {
        out.push_str("\x1b[0m");
    }
    (out, width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: Size = Size { columns: 4, rows: 3 };

    #[test]
    fn each_line_covers_the_one_that_stood_there_and_nothing_is_cleared_before() {
        assert_eq!(picture("ab\ncd\n", SMALL), "\x1b[Hab\x1b[K\ncd\x1b[K\n\x1b[J");
        assert_eq!(picture("", SMALL), "\x1b[H\x1b[J");
    }

    #[test]
    fn what_is_too_wide_or_too_long_is_cut() {
        // A line of the full width is not followed by EL, which would take its last character away.
        assert_eq!(picture("abcdef\n网络网\n", SMALL), "\x1b[Habcd\n网络\n\x1b[J");
        let tall = picture("1\n2\n3\n4\n5\n", Size { columns: 20, rows: 3 });
        assert_eq!(tall, "\x1b[H1\x1b[K\n2\x1b[K\n… 3 more lines\x1b[K");
        assert_eq!(picture("1\n2\n3\n", SMALL), "\x1b[H1\x1b[K\n2\x1b[K\n3\x1b[K");
    }

    #[test]
    fn colours_take_no_room_and_end_where_the_line_is_cut() {
        assert_eq!(cut("\x1b[32mabcdef\x1b[0m", 4), ("\x1b[32mabcd\x1b[0m".to_owned(), 4));
    }

    proptest! {
        #[test]
        fn nothing_is_ever_larger_than_the_terminal(text in "(\\PC|\n|\x1b\\[3[0-9]m){0,80}", columns in 1usize..20, rows in 1usize..6) {
            let drawn = picture(&text, Size { columns, rows });
            prop_assert!(drawn.matches('\n').count() < rows, "{drawn:?}");
            for line in text.lines() {
                prop_assert!(cut(line, columns).1 <= columns);
            }
        }
    }
}
