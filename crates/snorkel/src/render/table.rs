//! Columns, two spaces apart, as wide as their widest cell; no lines, so that `awk` and eyes read them alike.

use unicode_width::UnicodeWidthStr;

use super::style::{Style, Tone};
use super::text::printable;

/// A cell: its text, made safe for the terminal, and what it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A cell; text from elsewhere is made printable here, once for all.
    pub(crate) fn new(text: impl AsRef<str>) -> Cell {
        Cell { text: printable(text.as_ref()).into_owned(), tone: None }
    }

    /// In this tone.
    pub(crate) fn tone(self, tone: Tone) -> Cell {
        Cell { tone: Some(tone), ..self }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::new(text)
    }
}

/// The table as text, a line each, the header first.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>], style: Style) -> String {
    let mut widths: Vec<usize> = header.iter().map(|name| name.width()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.width());
        }
    }
    let heading: Vec<Cell> = header.iter().map(|name| Cell::new(name).tone(Tone::Heading)).collect();
    let mut out = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = String::new();
        let mut gap = 0;
        for (cell, width) in row.iter().zip(&widths) {
            if !cell.text.is_empty() {
                line.extend(std::iter::repeat_n(' ', gap));
                gap = 0;
                match cell.tone {
                    Some(tone) => line.push_str(&style.paint(tone, &cell.text)),
                    None => line.push_str(&cell.text),
                }
            }
            // Padding waits for the next text, so that no line ends in blanks.
            gap += width - cell.text.width() + 2;
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_wide_characters_and_no_line_ends_in_blanks() {
        let rows = [vec!["网络".into(), "1".into(), "".into()], vec!["".into(), "22".into(), "z".into()]];
        assert_eq!(table(&["A", "B", "C"], &rows, Style::PLAIN), "A     B   C\n网络  1\n      22  z\n");
    }

    #[test]
    fn a_name_cannot_break_out_of_its_cell() {
        let rows = [vec!["a\nb\x1b[2J".into()]];
        assert_eq!(table(&["A"], &rows, Style::PLAIN), "A\na\\nb\\u{1b}[2J\n");
    }
}
