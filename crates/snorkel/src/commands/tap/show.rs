//! Where what a tap tells goes to: lines, or objects.

use std::io::Write;
use std::net::SocketAddr;

use snorkel_capture::names::Names;
use snorkel_tap::event::{Event, What, Word};
use snorkel_tap::relay::Report;

use super::objects;
use crate::cli::Globals;
use crate::commands::{print, warn_all};
use crate::failure::Failure;
use crate::render::tap::{Lines, account};
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
    lines: Option<Lines>,
}

impl Show {
    pub(super) fn new(json: bool, globals: &Globals, names: Names, networks: Vec<String>) -> Show {
        let lines = (!json).then(|| Lines::new(globals.style(), globals.is_verbose()));
        Show { called: Called { names, networks }, lines }
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
        if matches!(event.what, What::Bytes { .. } | What::Finished { .. }) {
            return Ok(());
        }
        self.event(tap, &event)
    }

    fn event(&mut self, tap: usize, event: &Event) -> Result<(), Failure> {
        let text = match &mut self.lines {
            Some(lines) => lines.event(tap, event, &self.called),
            None => objects::object(tap, event, &self.called)?,
        };
        if text.is_empty() { Ok(()) } else { Ok(print(&text)?) }
    }

    /// The account at the end.
    pub(super) fn finish(self, report: &Report) -> Result<(), Failure> {
        if report.untold > 0 {
            warn_all([&format!("{} events are not shown: whoever reads them was too slow", report.untold)]);
        }
        if self.lines.is_some() {
            // With stderr gone there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "snorkel: {}", account(report));
        }
        Ok(())
    }
}
