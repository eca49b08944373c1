//! Network namespaces that are mounted somewhere: `ip netns` in `/run/netns`, Docker in `/run/docker/netns`, CNI, anyone.
//!
//! Each is a mount of nsfs whose root is called after the namespace (`net:[4026532281]`) in `/proc/self/mountinfo`
//! (proc_pid_mountinfo(5)).

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use snorkel_netns::{Netns, mounts};

use crate::asking::Sink;
use crate::fault::{Fault, Result};
use crate::{Container, Engine, State};

const MOUNTS: &str = "/proc/self/mountinfo";

/// Every mounted namespace. Those in `dirs` are called by their file's name, the others by their path. `path` is one
/// that is asked for by path, wherever it is: a namespace need not be a mount of this mount namespace to be opened.
pub(crate) fn list(dirs: &[PathBuf], path: Option<&Path>, sink: &Sink) -> Result<()> {
    let text =
        mounts::read(Path::new(MOUNTS)).map_err(|source| Fault::Read { path: MOUNTS.into(), source })?;
    let mut found = parse(&text);
    if let Some(path) = path
        && !found.iter().any(|known| known == path)
        && Netns::open(path).is_ok()
    {
        found.push(path.to_owned());
    }
    sink.extend(found.into_iter().map(|path| container(dirs, path)));
    Ok(())
}

fn container(dirs: &[PathBuf], path: PathBuf) -> Container {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned());
    let called_by_name = path.parent().is_some_and(|dir| dirs.iter().any(|d| d == dir));
    let id = match &name {
        Some(name) if called_by_name => name.clone(),
        _ => path.to_string_lossy().into_owned(),
    };
    Container {
        names: name.into_iter().collect(),
        state: State::Running,
        status: "mounted".into(),
        netns_path: Some(path),
        ..Container::new(Engine::Netns, id)
    }
}

/// The mount points of network namespaces, each once.
pub(crate) fn parse(mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut seen = HashSet::new();
    for mount in mounts::parse(mountinfo) {
        let is_netns = mount.kind == "nsfs" && mount.root.starts_with(b"net:[");
        // What was unlinked under a mount cannot be opened any more.
        let is_there =
            mount.point.is_absolute() && !mount.point.as_os_str().as_bytes().ends_with(b"//deleted");
        if is_netns && is_there && seen.insert(mount.point.clone()) {
            found.push(mount.point);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOUNTINFO: &[u8] = b"26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
        300 26 0:4 net:[4026532281] /run/netns/blue rw shared:2 - nsfs nsfs rw\n\
        301 300 0:4 net:[4026532281] /run/netns/blue rw - nsfs nsfs rw\n\
        302 26 0:4 mnt:[4026532283] /run/snapd/ns/x.mnt rw - nsfs nsfs rw\n\
        303 26 0:4 net:[4026532284] /run/docker/netns/my\\040net rw shared:2 master:3 - nsfs nsfs rw\n";

    #[test]
    fn network_namespaces_are_found_each_once() {
        let found = parse(MOUNTINFO);
        assert_eq!(found, [PathBuf::from("/run/netns/blue"), PathBuf::from("/run/docker/netns/my net")]);
        let dirs = [PathBuf::from("/run/netns")];
        let named: Vec<String> = found.into_iter().map(|p| container(&dirs, p).qualified()).collect();
        assert_eq!(named, ["netns:blue", "netns:/run/docker/netns/my net"]);
    }

    #[test]
    fn a_namespace_can_be_asked_for_by_any_path() {
        let sink = Sink::default();
        list(&["/run/netns".into()], Some("/proc/self/ns/net".as_ref()), &sink).unwrap();
        assert!(sink.take().containers.iter().any(|c| c.id == "/proc/self/ns/net"));
        let query = crate::Query { endpoints: crate::Endpoints::none(), ..Default::default() };
        let own = container(&[], "/proc/self/ns/net".into());
        assert_eq!(crate::recheck(&query, &own).unwrap(), Some(own));
        list(&["/run/netns".into()], Some("/etc/passwd".as_ref()), &sink).unwrap();
        assert!(!sink.take().containers.iter().any(|c| c.id == "/etc/passwd"));
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            parse(&bytes);
            let mut mutated = MOUNTINFO.to_vec();
            mutated[at.index(MOUNTINFO.len())] = byte;
            parse(&mutated);
        }
    }
}
