//! What a command line's words ask for: which targets, which of their links, which ends.

use snorkel_engines::{LabelFilter, TargetSpec};
use snorkel_topology::Target;
use wildmatch::WildMatch;

/// At which end of a link packets are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// The link that the container has
    Container,
    /// Its other end, on the host
    Host,
    /// Both ends
    Both,
}

/// Which targets, which of their links, which ends.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Names and patterns, as they were typed.
    pub(crate) targets: Vec<Words>,
    /// Links by name; none: all but the loopback.
    pub(crate) links: Vec<String>,
    /// Which ends.
    pub(crate) side: Side,
}

impl Wanted {
    /// Those that are meant by a name.
    pub(crate) fn named(&self) -> impl Iterator<Item = &TargetSpec> {
        self.targets.iter().filter_map(|word| match word {
            Words::One(spec) => Some(spec),
            Words::Pattern(_) | Words::Label(_) => None,
        })
    }
}

/// A word that means targets.
#[derive(Debug, Clone)]
pub(crate) enum Words {
    /// Exactly one.
    One(TargetSpec),
    /// As many as there are that run: `web-*`, `docker:*`.
    Pattern(String),
    /// As many as there are that run and have this label.
    Label(LabelFilter),
}

impl Words {
    /// Whether they mean this target, as one of any number. One that is named is meant by its name alone.
    pub(super) fn fit(&self, target: &Target) -> bool {
        match self {
            Words::One(_) => false,
            Words::Pattern(pattern) => matches(pattern, target),
            Words::Label(label) => label.fits(&target.container),
        }
    }
}

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Words::One(spec) => spec.fmt(f),
            Words::Pattern(pattern) => pattern.fmt(f),
            Words::Label(LabelFilter { key, value: None }) => write!(f, "-l {key}"),
            Words::Label(LabelFilter { key, value: Some(value) }) => write!(f, "-l {key}={value}"),
        }
    }
}

impl std::str::FromStr for Words {
    type Err = snorkel_engines::SpecError;

    fn from_str(text: &str) -> Result<Words, Self::Err> {
        if text.contains(['*', '?']) {
            Ok(Words::Pattern(text.to_owned()))
        } else {
            text.parse().map(Words::One)
        }
    }
}

/// Whether a pattern means this target: by its qualified name or one of its plain ones.
fn matches(pattern: &str, target: &Target) -> bool {
    let pattern = WildMatch::new(pattern);
    pattern.matches(&target.name)
        || pattern.matches(&target.short)
        || target.container.names.iter().any(|name| pattern.matches(name))
}
