//! Where what a tap tells goes to: lines, or objects.

use std::io::Write;
use std::net::SocketAddr;

use snorkel_capture::names::Names;
use snorkel_tap::event::{Event, What, Word};
use snorkel_tap::relay::Report;

use super::objects;
use crate::commands::{print, warn_all};
use crate::failure::Failure;
use crate::render::tap::{Lines, account, is_answer};
use crate::render::text::printable;

/// Names of addresses, as each tapped network sees them.
pub(crate) struct Called {
    names: Names,
    /// What each network is called, by the number of its tap.
    networks: Vec<String>,
}

impl Called {
    /// `client:43312`, or with numbers alone.
    pub(crate) fn socket(&self, tap: usize, address: SocketAddr) -> String {
        match self.name(tap, address) {
            Some(name) => format!("{name}:{}", address.port()),
            None => address.to_string(),
        }
    }

    /// Whose an address is. The loopback is the target's own.
    pub(crate) fn name(&self, tap: usize, address: SocketAddr) -> Option<&str> {
        let ip = address.ip().to_canonical();
        if ip.is_loopback() {
            return self.networks.get(tap).map(String::as_str);
        }
        self.names.of(tap, ip)
    }
}

/// What is shown, and how.
pub(super) struct Show {
    called: Called,
    form: Form,
}

/// In which form.
pub(super) enum Form {
    Lines(Lines),
    Objects,
    /// Stdout is for a file.
    Nothing,
}

/// What is shown at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shows {
    /// How connections end.
    ends: bool,
    /// That they open, and what is said on them.
    all: bool,
}

impl Shows {
    /// Whether this word is to be shown.
    pub(super) fn wants(self, word: &Word) -> bool {
        match word {
            Word::Event(Event { what: What::Ended(_), .. }) => self.ends,
            Word::Event(Event { what: What::Said(said), .. }) => self.all || (self.ends && is_answer(said)),
            Word::Event(_) => self.all,
            Word::Note(_) | Word::Warning(_) => true,
        }
    }
}

impl Show {
    pub(super) fn new(form: Form, names: Names, networks: Vec<String>) -> Show {
        Show { called: Called { names, networks }, form }
    }

    /// What of what taps tell is to come here.
    pub(super) fn shows(&self) -> Shows {
        match &self.form {
            Form::Lines(lines) => Shows { ends: true, all: lines.is_verbose() },
            Form::Objects => Shows { ends: true, all: true },
            Form::Nothing => Shows { ends: false, all: false },
        }
    }

    /// Takes one word of a tap.
    pub(super) fn take(&mut self, tap: usize, word: Word) -> Result<(), Failure> {
        let event = match word {
            Word::Event(event) => event,
            Word::Note(text) => {
                // With stderr gone there is nobody to tell.
                let _ = writeln!(std::io::stderr(), "snorkel: {}", printable(&text));
                return Ok(());
            }
            Word::Warning(text) => {
                warn_all([&text]);
                return Ok(());
            }
        };
        self.event(tap, &event)
    }

    fn event(&mut self, tap: usize, event: &Event) -> Result<(), Failure> {
        let text = match &mut self.form {
            Form::Lines(lines) => lines.event(tap, event, &self.called),
            Form::Objects => objects::object(tap, event, &self.called)?,
            Form::Nothing => return Ok(()),
        };
        if text.is_empty() { Ok(()) } else { Ok(print(&text)?) }
    }

    /// The account at the end.
    pub(super) fn finish(self, report: &Report) -> Result<(), Failure> {
        if report.untold > 0 {
            warn_all([&format!("{} events are not shown: whoever reads them was too slow", report.untold)]);
        }
        if !matches!(self.form, Form::Objects) {
            // With stderr gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "snorkel: {}", account(report));
        }
        Ok(())
    }
}
