//! A plain process as a target: `pid:4711`. There is no list of them; whoever wants one knows its number.

use snorkel_netns::{Error, Pid, Process};

use crate::asking::Sink;
use crate::fault::{Fault, Result};
use crate::{Container, Engine, State};

/// Whether a word can be a process's number, as /proc writes it.
pub(crate) fn is_number(word: &str) -> bool {
    word.parse::<i32>().is_ok_and(|number| number > 0 && number.to_string() == word)
}

/// As [`lookup`], where the bare number may mean something else: only if it is a process that has another network than
/// this one, as those do that are listed.
pub(crate) fn lookup_apart(number: &str, sink: &Sink) -> Result<()> {
    let netns = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    match netns(number) {
        Some(there) if Some(&there) != netns("self").as_ref() => lookup(number, sink),
        _ => Ok(()),
    }
}

/// The process with this number, if there is one.
pub(crate) fn lookup(number: &str, sink: &Sink) -> Result<()> {
    let Some(pid) = number.parse().ok().and_then(Pid::new) else { return Ok(()) };
    let comm = match Process::open(pid).and_then(|process| process.read("comm")) {
        Ok(comm) => comm,
        Err(Error::Gone(_)) => return Ok(()),
        Err(Error::Os { what, source }) => return Err(Fault::Read { path: what.into(), source }),
        Err(other) => return Err(Fault::Foreign(other.to_string())),
    };
    sink.push(Container {
        names: vec![comm.trim_end_matches('\n').to_owned()],
        state: State::Running,
        status: "running".into(),
        pid: Some(pid),
        ..Container::new(Engine::Pid, pid.to_string())
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_number_and_called_by_its_command() {
        let sink = Sink::default();
        lookup(&Pid::own().to_string(), &sink).unwrap();
        let found = sink.take().containers;
        assert_eq!(found[0].qualified(), format!("pid:{}", Pid::own()));
        assert_eq!(found[0].pid, Some(Pid::own()));
        // A number alone does not mean one of the many processes that share this network.
        lookup_apart(&Pid::own().to_string(), &sink).unwrap();
        assert!(sink.take().containers.is_empty());
        assert!(is_number("7") && !is_number("007") && !is_number("0") && !is_number("-1"));
        lookup("2147483647", &sink).unwrap();
        assert!(sink.take().containers.is_empty());
    }
}
