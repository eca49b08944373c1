//! What fits where a value is typed: the names of the targets, links, labs and users of the moment.
//!
//! Nothing here fails: what cannot be read is not offered.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::engine::{
    ArgValueCandidates, ArgValueCompleter, CompletionCandidate, SubcommandCandidates,
};
use snorkel_engines::{Called, Container, Engine, Query};

use crate::render::text::printable;

/// Nobody waits longer for a tab key; an engine that is slower is left out.
const PATIENCE: Duration = Duration::from_millis(700);

/// The targets that run now.
pub(crate) fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let mut names = names();
        names.retain(|(name, _)| name.starts_with(&*typed));
        candidates(names)
    })
}

/// The same where a command could stand as well: `snorkel TARGET`.
pub(crate) fn external() -> SubcommandCandidates {
    SubcommandCandidates::new(|| candidates(names()))
}

/// The words of engines.
pub(crate) fn engines() -> ArgValueCandidates {
    fixed(&Engine::ALL.map(|engine| (engine.word(), "")))
}

/// The namespaces that can be joined.
pub(crate) fn kinds() -> ArgValueCandidates {
    fixed(&[("net", ""), ("uts", "host name"), ("ipc", ""), ("pid", "with care")])
}

/// Whose names.
pub(crate) fn dns() -> ArgValueCandidates {
    fixed(&[
        ("container", "as the target itself resolves"),
        ("engine", "the resolv.conf that the engine keeps for it"),
        ("host", "as the host resolves"),
    ])
}

/// Who a command can be run as: `me` and the host's users.
pub(crate) fn users() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let me = ("me".to_owned(), "who called sudo".to_owned());
        let users = snorkel_netns::user::all().into_iter().map(|(name, _)| (name, String::new()));
        candidates(std::iter::once(me).chain(users))
    })
}

/// Labels that running containers have.
pub(crate) fn labels() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let containers = running();
        let labels = containers.iter().flat_map(|(container, _)| &container.labels);
        let labels: BTreeSet<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        candidates(labels.into_iter().map(|label| (label, String::new())))
    })
}

/// The labs that are up.
pub(crate) fn labs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let labs = snorkel_lab::list().unwrap_or_default();
        candidates(labs.into_iter().map(|lab| (lab.name, format!("{} nodes", lab.nodes.len()))))
    })
}

/// The faults in force, and whom they disturb.
pub(crate) fn faults() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let (faults, _) = snorkel_fault::control::list().unwrap_or_default();
        let ids = faults.iter().map(|fault| (fault.id.to_string(), fault.words.join(" ")));
        let targets: BTreeSet<String> = faults.iter().flat_map(|fault| fault.targets.clone()).collect();
        candidates(ids.chain(targets.into_iter().map(|target| (target, String::new()))))
    })
}

/// Links as they are known.
pub(crate) fn profiles() -> ArgValueCandidates {
    let all = snorkel_fault::profile::PROFILES.iter().map(|profile| (profile.name, profile.summary));
    fixed(&all.collect::<Vec<_>>())
}

/// What can be asked about and is at hand: the host's links.
pub(crate) fn things() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let links =
            snorkel_rtnl::Socket::open().and_then(|mut socket| socket.links(None)).unwrap_or_default();
        candidates(links.into_iter().map(|link| (link.name, link.kind.unwrap_or_default())))
    })
}

fn fixed(words: &[(&'static str, &'static str)]) -> ArgValueCandidates {
    let words: Vec<(String, String)> =
        words.iter().map(|(word, help)| ((*word).to_owned(), (*help).to_owned())).collect();
    ArgValueCandidates::new(move || candidates(words.clone()))
}

/// The containers that can be entered now, and what each is called among all that there are.
fn running() -> Vec<(Container, Called)> {
    let containers = snorkel_engines::list(&Query { timeout: PATIENCE, ..Query::default() }).containers;
    let called = snorkel_engines::called(&containers);
    containers.into_iter().zip(called).filter(|(container, _)| container.is_up()).collect()
}

/// What can be typed for each target, and what is said beside it: its whole name, and the plain one as long as it means
/// just this one.
fn names() -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    for (container, called) in running() {
        if called.short != called.name {
            names.push((called.short, container.engine.to_string()));
        }
        names.push((called.name, container.status));
    }
    names
}

/// Engines, and whoever names their containers, choose these words: one with a character that does more than to be shown
/// is not for the line that is being typed, nor for the list below it.
fn candidates(words: impl IntoIterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let candidate = |(word, help): (String, String)| {
        CompletionCandidate::new(word).help((!help.is_empty()).then(|| printable(&help).into_owned().into()))
    };
    words.into_iter().filter(|(word, _)| *printable(word) == **word).map(candidate).collect()
}
