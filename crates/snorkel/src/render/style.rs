//! Colour, and whether there is any: on a terminal only, never with NO_COLOR (no-color.org) or a dumb terminal.

use std::fmt::Display;
use std::io::IsTerminal;

use clap::ValueEnum;

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How an output is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    coloured: bool,
}

/// What a piece of text is, from which its colour follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// A heading.
    Heading,
    /// What stands behind.
    Faint,
    /// All is well.
    Good,
    /// Worth a look.
    Doubtful,
    /// Broken.
    Bad,
}

impl Style {
    /// Plain text.
    pub(crate) const PLAIN: Style = Style { coloured: false };

    /// For stdout.
    pub(crate) fn of_stdout(when: When) -> Style {
        Style { coloured: wanted(when, std::io::stdout().is_terminal()) }
    }

    /// For stderr.
    pub(crate) fn of_stderr(when: When) -> Style {
        Style { coloured: wanted(when, std::io::stderr().is_terminal()) }
    }

    /// Whether there is colour at all.
    pub(crate) fn is_coloured(self) -> bool {
        self.coloured
    }

    /// The text in its colour.
    pub(crate) fn paint(self, tone: Tone, text: impl Display) -> String {
        if !self.coloured {
            return text.to_string();
        }
        let code = match tone {
            Tone::Heading => "1",
            Tone::Faint => "2",
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn wanted(when: When, terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
            terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
        }
    }
}
