//! A plain process as a target: `pid:4711`. There is no list of them; whoever wants one knows its number.

use snorkel_netns::{Error, Pid, Process};

use crate::asking::Sink;
use crate::fault::{Fault, Result};
use crate::{Container, Engine, State};

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
        lookup("2147483647", &sink).unwrap();
        assert!(sink.take().containers.is_empty());
    }
}
