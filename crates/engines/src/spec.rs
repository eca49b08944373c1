//! What the user typed for a target: the grammar, and nothing else.
//!
//! `web`, an id or the start of one, `docker:web`, `podman:alice/web`, `containerd:k8s.io/ID`, `pod:default/web-0`,
//! `pod:default/web-0/app`, `netns:blue`, `netns:/path`, `pid:4711`, `lab:web`. A word before a colon that names no
//! engine is part of the name, so a name with colons or slashes in it needs no quoting.

use std::fmt;
use std::str::FromStr;

use crate::Engine;

/// What stands before the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One engine only.
    Engine(Engine),
    /// A pod, whichever engine runs it.
    Pod,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Engine(engine) => engine.fmt(f),
            Kind::Pod => f.pad("pod"),
        }
    }
}

/// A target as it was named. Its `Display` is what was typed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetSpec {
    /// The word before the colon; `None` asks every engine.
    pub kind: Option<Kind>,
    /// What stands before the slash: a user, a containerd namespace, a lab, or for a pod its Kubernetes namespace.
    pub scope: Option<String>,
    /// The name, id or start of an id; for `netns:` a name or a path.
    pub name: String,
    /// The container in a pod.
    pub container: Option<String>,
}

/// Why a text names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nothing at all, or nothing behind the colon or a slash.
    #[error("'{}' names no target: the name is empty", .0.escape_debug())]
    Empty(String),
    /// A pod with more than namespace, name and container.
    #[error("'{}' is not a pod: write pod:NAMESPACE/NAME or pod:NAMESPACE/NAME/CONTAINER", .0.escape_debug())]
    PodParts(String),
    /// `pid:` with something that cannot be a process.
    #[error("'{}' is not a process: write pid: and a number above 0", .0.escape_debug())]
    NotAPid(String),
    /// A name with a NUL byte: no engine and no path can have it.
    #[error("'{}' names no target: it holds a NUL character", .0.escape_debug())]
    Nul(String),
}

impl FromStr for TargetSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<TargetSpec, SpecError> {
        let empty = || SpecError::Empty(text.to_owned());
        if text.contains('\0') {
            return Err(SpecError::Nul(text.to_owned()));
        }
        let (kind, rest) = match text.split_once(':') {
            Some(("pod", rest)) => (Some(Kind::Pod), rest),
            Some((word, rest)) => match word.parse() {
                Ok(engine) => (Some(Kind::Engine(engine)), rest),
                Err(_) => (None, text),
            },
            None => (None, text),
        };
        if rest.is_empty() {
            return Err(empty());
        }
        let plain = |name: &str| TargetSpec { kind, scope: None, name: name.to_owned(), container: None };
        match kind {
            None | Some(Kind::Engine(Engine::Netns)) => Ok(plain(rest)),
            Some(Kind::Engine(Engine::Pid)) => match rest.parse::<i32>() {
                // The number is kept as /proc writes it: `pid:007` is process 7.
                Ok(pid) if pid > 0 => Ok(plain(&pid.to_string())),
                _ => Err(SpecError::NotAPid(text.to_owned())),
            },
            Some(Kind::Pod) => {
                let parts: Vec<&str> = rest.split('/').collect();
                if parts.iter().any(|p| p.is_empty()) {
                    return Err(empty());
                }
                match parts[..] {
                    [name] => Ok(plain(name)),
                    [namespace, name] => Ok(TargetSpec { scope: Some(namespace.to_owned()), ..plain(name) }),
                    [namespace, name, container] => Ok(TargetSpec {
                        scope: Some(namespace.to_owned()),
                        container: Some(container.to_owned()),
                        ..plain(name)
                    }),
                    _ => Err(SpecError::PodParts(text.to_owned())),
                }
            }
            Some(Kind::Engine(_)) => match rest.split_once('/') {
                Some((scope, name)) if !scope.is_empty() && !name.is_empty() => {
                    Ok(TargetSpec { scope: Some(scope.to_owned()), ..plain(name) })
                }
                // A slash at an end separates nothing: it is part of the name.
                _ => Ok(plain(rest)),
            },
        }
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{kind}:")?;
        }
        if let Some(scope) = &self.scope {
            write!(f, "{scope}/")?;
        }
        f.write_str(&self.name)?;
        match &self.container {
            Some(container) => write!(f, "/{container}"),
            None => Ok(()),
        }
    }
}

impl TargetSpec {
    /// The engine that is meant, if it is one alone.
    pub fn engine(&self) -> Option<Engine> {
        match self.kind {
            Some(Kind::Engine(engine)) => Some(engine),
            Some(Kind::Pod) | None => None,
        }
    }

    /// Scope and name as one word, for names that hold a slash themselves.
    pub(crate) fn joined(&self) -> String {
        match &self.scope {
            Some(scope) => format!("{scope}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(text: &str) -> TargetSpec {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_of_the_grammar_is_read() {
        let docker = Some(Kind::Engine(Engine::Docker));
        assert_eq!(spec("web"), TargetSpec { kind: None, scope: None, name: "web".into(), container: None });
        assert_eq!(spec("docker:web").kind, docker);
        assert_eq!(spec("docker:web").name, "web");
        assert_eq!(spec("podman:alice/web").scope.as_deref(), Some("alice"));
        assert_eq!(spec("containerd:k8s.io/abc").scope.as_deref(), Some("k8s.io"));
        assert_eq!(spec("pod:default/web-0").name, "web-0");
        assert_eq!(spec("pod:default/web-0/app").container.as_deref(), Some("app"));
        assert_eq!(spec("pod:web-0").scope, None);
        assert_eq!(spec("netns:/run/netns/blue").name, "/run/netns/blue");
        assert_eq!(spec("pid:007").name, "7");
        assert_eq!(spec("lab:web").name, "web");
    }

    #[test]
    fn an_unknown_word_before_the_colon_belongs_to_the_name() {
        for name in ["foo:bar", "$(reboot):x", "a/b:c", ":x", "Docker:web", "; rm -rf /"] {
            assert_eq!(spec(name).name, name);
            assert_eq!(spec(name).kind, None);
        }
    }

    #[test]
    fn what_names_nothing_is_an_error() {
        for text in ["", "docker:", "pod:", "pod:/", "pod:a//b"] {
            assert_eq!(text.parse::<TargetSpec>(), Err(SpecError::Empty(text.into())));
        }
        assert!(matches!("pod:a/b/c/d".parse::<TargetSpec>(), Err(SpecError::PodParts(_))));
        for text in ["pid:0", "pid:-1", "pid:x", "pid:99999999999"] {
            assert!(matches!(text.parse::<TargetSpec>(), Err(SpecError::NotAPid(_))), "{text}");
        }
        assert!(matches!("a\0b".parse::<TargetSpec>(), Err(SpecError::Nul(_))));
    }

    proptest! {
        #[test]
        fn what_was_typed_is_what_is_shown(text in "\\PC{0,40}|[a-z:/.\\-]{0,30}|(docker|pod|netns|lab):[a-z/:]{0,20}") {
            if let Ok(spec) = text.parse::<TargetSpec>() {
                prop_assert_eq!(spec.to_string(), text);
            }
        }

        #[test]
        fn any_bytes_parse_or_are_refused(text in any::<String>()) {
            let _ = text.parse::<TargetSpec>();
        }
    }
}
