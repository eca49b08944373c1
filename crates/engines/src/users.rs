//! Users, as the names and paths of engines have them.

use std::cell::LazyCell;
use std::path::PathBuf;

use snorkel_netns::user;

/// The name of a user, or the number where /etc/passwd does not know it.
pub(crate) fn name_of(uid: u32) -> String {
    names()(uid)
}

/// As [`name_of`], for many: /etc/passwd is read once, when the first is asked for.
pub(crate) fn names() -> impl Fn(u32) -> String {
    let known = LazyCell::new(user::all);
    move |uid| {
        let user = known.iter().find(|(_, number)| *number == uid);
        user.map_or_else(|| uid.to_string(), |(name, _)| name.clone())
    }
}

/// Who asks.
pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// `$HOME`, if it is set.
pub(crate) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from)
}

/// The user whose runtime directory a path lies in: `/run/user/UID/…` (pam_systemd(8)).
pub(crate) fn of_runtime_path(path: &std::path::Path) -> Option<u32> {
    let rest = path.strip_prefix("/run/user").or_else(|_| path.strip_prefix("/var/run/user")).ok()?;
    rest.components().next()?.as_os_str().to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_directory_names_its_user() {
        assert_eq!(of_runtime_path("/run/user/1000/docker.sock".as_ref()), Some(1000));
        assert_eq!(of_runtime_path("/run/docker.sock".as_ref()), None);
    }
}
