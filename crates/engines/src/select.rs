//! Which container a target means: a pure function over what was found. It never guesses: two matches are an error.

use std::path::Path;

use crate::fault::escaped;
use crate::{Container, Engine, Kind, TargetSpec};

/// Why no single container was selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// Several fit equally well.
    #[error("'{}' is ambiguous: {}", escaped(.spec), list(.candidates))]
    Ambiguous {
        /// The target as it was named.
        spec: String,
        /// Qualified names; each selects one.
        candidates: Vec<String>,
    },
    /// None fits.
    #[error("no target '{}'{}", escaped(.spec), did_you_mean(.suggestions))]
    NotFound {
        /// The target as it was named.
        spec: String,
        /// Qualified names that look alike, the likest first.
        suggestions: Vec<String>,
    },
    /// There is one, but it has no network to work in.
    #[error("{} is not running: {}", escaped(.qualified), if .status.is_empty() { "it has no process".into() } else { escaped(.status) })]
    Stopped {
        /// Its qualified name.
        qualified: String,
        /// The engine's own word for its state.
        status: String,
    },
}

/// So many letters name something by its beginning, or by its middle.
const FEWEST_TO_BEGIN: usize = 2;
const FEWEST_TO_HOLD: usize = 3;

fn list(names: &[String]) -> String {
    names.iter().map(|n| escaped(n)).collect::<Vec<_>>().join(", ")
}

fn did_you_mean(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => {
            format!("; did you mean {}?", names.iter().map(|n| escaped(n)).collect::<Vec<_>>().join(" or "))
        }
    }
}

/// The one container that `spec` means. `all` is as [`crate::list`] and [`crate::lookup`] give it: merged.
///
/// The qualified name itself beats an exact name, that beats a full id, that beats the name of a pod, that beats the
/// start of an id.
pub fn select<'a>(spec: &TargetSpec, all: &'a [Container]) -> Result<&'a Container, SelectError> {
    let not_found =
        || Err(SelectError::NotFound { spec: spec.to_string(), suggestions: suggestions(spec, all) });
    if spec.kind == Some(Kind::Pod) {
        return settle_pod(spec, all).unwrap_or_else(not_found);
    }
    let whole = spec.to_string();
    let ranks: [&dyn Fn(&Container) -> bool; 5] = [
        &|c| spec.kind.is_some() && c.qualified() == whole,
        &|c| has_name(spec, c),
        &|c| has_id(spec, c, &|id, wanted| id == wanted),
        // A bare word may also be a pod's name; settled below.
        &|_| false,
        // A bare number may be a process's as well: neither is guessed.
        &|c| is_prefixed(spec, c) || (spec.kind.is_none() && c.engine == Engine::Pid && c.id == spec.name),
    ];
    for (rank, fits) in ranks.iter().enumerate() {
        if rank == 3 {
            if spec.kind.is_none()
                && let Some(settled) = settle_bare_pod(spec, all)
            {
                return settled;
            }
            continue;
        }
        let matches: Vec<&Container> = all.iter().filter(|c| fits(c)).collect();
        if !matches.is_empty() {
            return settle(spec, matches);
        }
    }
    not_found()
}

fn is_prefixed(spec: &TargetSpec, c: &Container) -> bool {
    has_id(spec, c, &|id, wanted| !wanted.is_empty() && id.starts_with(wanted))
}

/// Whether it is meant by the start of its id only. Then what an engine that was asked for this one container has not
/// told of, a pod's name, would come before it.
pub(crate) fn is_abbreviated(spec: &TargetSpec, c: &Container) -> bool {
    spec.kind.is_none()
        && is_prefixed(spec, c)
        && !has_name(spec, c)
        && !has_id(spec, c, &|id, wanted| id == wanted)
}

/// Whether the engine, or one under which it is known as well, is the one that is asked for.
fn is_of(spec: &TargetSpec, c: &Container) -> bool {
    spec.engine().is_none_or(|engine| c.engine == engine)
}

fn in_scope(spec: &TargetSpec, c: &Container) -> bool {
    spec.scope.is_none() || spec.scope == c.scope
}

fn has_name(spec: &TargetSpec, c: &Container) -> bool {
    if c.engine == Engine::Pid {
        // Its name is its command's, which many may have: for the eye.
        return spec.engine() == Some(Engine::Pid) && c.id == spec.name;
    }
    let joined = spec.joined();
    let direct = is_of(spec, c)
        && c.names.iter().chain((!c.engine.has_ids()).then_some(&c.id)).any(|name| {
            (*name == spec.name && in_scope(spec, c))
                || *name == joined
                || c.scope.as_ref().is_some_and(|scope| {
                    joined.strip_prefix(scope.as_str()).and_then(|rest| rest.strip_prefix('/')) == Some(name)
                })
        });
    let netns = c.engine == Engine::Netns
        && is_of(spec, c)
        && c.netns_path.as_ref().is_some_and(|path| path.as_os_str() == spec.name.as_str());
    direct || netns || aliased(c).any(|alias| alias_fits(spec, &alias, &|name| name == spec.name))
}

fn has_id(spec: &TargetSpec, c: &Container, fits: &dyn Fn(&str, &str) -> bool) -> bool {
    if !c.engine.has_ids() {
        return false;
    }
    let joined = spec.joined();
    let scoped = c.scope.as_ref().and_then(|scope| joined.strip_prefix(scope.as_str())?.strip_prefix('/'));
    let direct = is_of(spec, c)
        && ((in_scope(spec, c) && fits(&c.id, &spec.name))
            || scoped.is_some_and(|wanted| fits(&c.id, wanted)));
    direct || aliased(c).any(|alias| alias_fits(spec, &alias, &|_| fits(&c.id, &spec.name)))
}

/// The other engines' views on it, read back from their qualified names.
fn aliased(c: &Container) -> impl Iterator<Item = TargetSpec> + '_ {
    c.aliases.iter().filter_map(|alias| alias.parse().ok())
}

fn alias_fits(spec: &TargetSpec, alias: &TargetSpec, name: &dyn Fn(&str) -> bool) -> bool {
    spec.kind.is_some()
        && spec.kind == alias.kind
        && (spec.scope.is_none() || spec.scope == alias.scope)
        && name(&alias.name)
}

/// A pod without the word before it: `NAME`, `NAMESPACE/NAME`, `NAMESPACE/NAME/CONTAINER`, and `NAME/CONTAINER`.
fn settle_bare_pod<'a>(
    spec: &TargetSpec,
    all: &'a [Container],
) -> Option<Result<&'a Container, SelectError>> {
    let written_out = format!("pod:{}", spec.name).parse::<TargetSpec>().ok();
    let whole = written_out.as_ref().and_then(|pod| settle_pod(pod, all));
    let part = match spec.name.split_once('/') {
        Some((name, container)) if !container.contains('/') => settle_pod(
            &TargetSpec {
                kind: Some(Kind::Pod),
                scope: None,
                name: name.to_owned(),
                container: Some(container.to_owned()),
            },
            all,
        ),
        _ => None,
    };
    match (whole, part) {
        (Some(whole), Some(part)) => {
            let mut candidates = [whole, part].into_iter().flat_map(names_of).collect::<Vec<_>>();
            candidates.sort();
            candidates.dedup();
            Some(Err(SelectError::Ambiguous { spec: spec.to_string(), candidates }))
        }
        // It is told of as it was typed.
        (whole, part) => whole.or(part).map(|settled| {
            settled.map_err(|error| match error {
                SelectError::Ambiguous { candidates, .. } => {
                    SelectError::Ambiguous { spec: spec.to_string(), candidates }
                }
                other => other,
            })
        }),
    }
}

/// The qualified names in what was settled, whichever way.
fn names_of(settled: Result<&Container, SelectError>) -> Vec<String> {
    match settled {
        Ok(container) => vec![container.qualified()],
        Err(SelectError::Ambiguous { candidates, .. }) => candidates,
        Err(SelectError::Stopped { qualified, .. }) => vec![qualified],
        Err(SelectError::NotFound { .. }) => Vec::new(),
    }
}

/// The container or the sandbox of a pod; without a container's name any that is up, if all have one network.
fn settle_pod<'a>(spec: &TargetSpec, all: &'a [Container]) -> Option<Result<&'a Container, SelectError>> {
    let of_pod = |c: &&Container| {
        c.pod.as_ref().is_some_and(|pod| {
            pod.name == spec.name
                && spec.scope.as_ref().is_none_or(|namespace| *namespace == pod.namespace)
                && (spec.container.is_none() || spec.container == pod.container)
        })
    };
    let matches: Vec<&Container> = all.iter().filter(of_pod).collect();
    let first = matches.first()?;
    // One pod name in two namespaces, or under two engines that are not one another's view.
    let mut pods: Vec<String> = matches
        .iter()
        .filter(|c| c.is_up())
        .filter_map(|c| {
            let container = spec.container.clone();
            c.pod.as_ref().map(|p| format!("pod:{}", crate::Pod { container, ..p.clone() }))
        })
        .collect();
    pods.sort();
    pods.dedup();
    if pods.len() > 1 {
        return Some(Err(SelectError::Ambiguous { spec: spec.to_string(), candidates: pods }));
    }
    if spec.container.is_some() {
        return Some(settle(spec, matches));
    }
    let is_sandbox = |c: &&Container| c.pod.as_ref().is_some_and(|p| p.container.is_none());
    let up: Vec<&Container> = matches.iter().copied().filter(|c| c.is_up()).collect();
    let sandboxes: Vec<&Container> = up.iter().copied().filter(is_sandbox).collect();
    // Any of them has the pod's network, if it is one pod: all under one engine, and either one of them is its sandbox
    // or they are seen to share.
    let speakers = if sandboxes.is_empty() { &up } else { &sandboxes };
    Some(match (&speakers[..], &up[..]) {
        ([speaker, others @ ..], [one, rest @ ..])
            if rest.iter().all(|c| home(c) == home(one)) && others.iter().all(|c| is_shared(speaker, c)) =>
        {
            Ok(speaker)
        }
        // The sandbox speaks for the pod, wherever it stands in the list.
        ([], _) | (_, []) => Err(stopped(matches.iter().copied().find(is_sandbox).unwrap_or(first))),
        _ => {
            let mut candidates: Vec<String> = up.iter().map(|c| c.qualified_id()).collect();
            candidates.sort();
            Err(SelectError::Ambiguous { spec: spec.to_string(), candidates })
        }
    })
}

/// Where a container is run: what two engines, two scopes or two sockets tell of is never one pod.
pub(crate) fn home(c: &Container) -> (Engine, Option<&str>, Option<&Path>) {
    (c.engine, c.scope.as_deref(), c.socket.as_deref())
}

/// Whether the engine says of two of its containers that they have one network.
fn is_shared(a: &Container, b: &Container) -> bool {
    let joins = |a: &Container, b: &Container| {
        a.network_mode.as_ref().is_some_and(|mode| mode.strip_prefix("container:") == Some(&b.id))
    };
    let same_mode = a.network_mode == b.network_mode
        && a.network_mode.as_ref().is_some_and(|mode| mode == "host" || mode.starts_with("container:"));
    let same_path = a.netns_path.is_some() && a.netns_path == b.netns_path;
    same_path || same_mode || joins(a, b) || joins(b, a)
}

fn stopped(c: &Container) -> SelectError {
    SelectError::Stopped { qualified: c.qualified(), status: c.status.clone() }
}

/// One match, or an error that says what there is.
fn settle<'a>(spec: &TargetSpec, matches: Vec<&'a Container>) -> Result<&'a Container, SelectError> {
    let up: Vec<&Container> = matches.iter().copied().filter(|c| c.is_up()).collect();
    match (&matches[..], &up[..]) {
        ([only], []) => Err(stopped(only)),
        ([only], _) => Ok(only),
        ([first, ..], []) => Err(stopped(first)),
        // Earlier attempts of the same container of a pod stay in the engine's list: they are not meant.
        (all, [only])
            if all.iter().all(|c| home(c) == home(only) && c.pod.is_some() && c.pod == only.pod) =>
        {
            Ok(only)
        }
        (all, _) => {
            let mut candidates: Vec<String> = all.iter().map(|c| c.qualified()).collect();
            for (i, c) in all.iter().enumerate() {
                let mine = c.qualified();
                if all.iter().filter(|other| other.qualified() == mine).count() > 1 {
                    candidates[i] = c.qualified_id();
                }
            }
            candidates.sort();
            Err(SelectError::Ambiguous { spec: spec.to_string(), candidates })
        }
    }
}

/// Up to three qualified names that are a slip of the fingers away from what was typed, or else begin with it, or else
/// hold it.
fn suggestions(spec: &TargetSpec, all: &[Container]) -> Vec<String> {
    let typed = spec.joined();
    let wanted = spec.name.to_lowercase();
    let allowed = (typed.chars().count() / 3).max(1);
    let mut near: Vec<(usize, String)> = all
        .iter()
        .filter_map(|c| {
            let pod = c.pod.iter().flat_map(|p| [p.name.clone(), p.to_string()]);
            let distance = c
                .names
                .iter()
                .cloned()
                .chain(pod)
                .chain(
                    c.scope
                        .iter()
                        .flat_map(|scope| c.names.iter().map(move |name| format!("{scope}/{name}"))),
                )
                .chain((!c.engine.has_ids()).then(|| c.id.clone()))
                .map(|name| {
                    if name.eq_ignore_ascii_case(&typed) || name.eq_ignore_ascii_case(&spec.name) {
                        0
                    } else {
                        // Hostile names can be long, and the measure is quadratic.
                        let close = |a: &str, b: &str| {
                            if a.len().abs_diff(b.len()) > 3 * allowed || b.len() > 512 {
                                usize::MAX
                            } else {
                                strsim::damerau_levenshtein(a, b)
                            }
                        };
                        let slip = close(&typed, &name).min(close(&spec.name, &name));
                        let lower = name.to_lowercase();
                        match slip {
                            slip if slip <= allowed => slip,
                            _ if wanted.len() >= FEWEST_TO_BEGIN && lower.starts_with(&wanted) => allowed + 1,
                            _ if wanted.len() >= FEWEST_TO_HOLD && lower.contains(&wanted) => allowed + 2,
                            _ => usize::MAX,
                        }
                    }
                })
                .min()?;
            (distance < usize::MAX).then(|| (distance, c.qualified()))
        })
        .collect();
    near.sort();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests;
