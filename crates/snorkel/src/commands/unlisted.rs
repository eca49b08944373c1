//! Targets that no engine lists: a process by its number, a namespace by its path. They are asked for by name, and join
//! the snapshot by the namespace that they live in.

use snorkel_engines::{Container, Query, SelectError, TargetSpec};
use snorkel_topology::{Snapshot, Target, locate};

/// Adds those that are wanted. Of one that cannot be found nothing is said here: that it is missing is found out later.
pub(crate) fn join<'a>(
    snapshot: &mut Snapshot,
    query: &Query,
    wanted: impl IntoIterator<Item = &'a TargetSpec>,
) {
    for spec in wanted {
        let containers: Vec<Container> =
            snapshot.targets.iter().map(|target| target.container.clone()).collect();
        // A name without an engine was looked for everywhere by the snapshot.
        if spec.engine().is_none()
            || !matches!(snorkel_engines::select(spec, &containers), Err(SelectError::NotFound { .. }))
        {
            continue;
        }
        let Ok(located) = locate::locate(query, spec) else { continue };
        let Ok(id) = located.netns().and_then(|netns| Ok(netns.id()?)) else { continue };
        let host = snapshot.namespace(id).is_some_and(|namespace| namespace.host);
        let name = located.name();
        snapshot.targets.push(Target {
            short: name.clone(),
            name,
            host,
            netns: Some(id),
            container: located.container,
        });
    }
}
