//! User names out of /etc/passwd, without the name service: a static binary must not load its modules.

use std::fs;
use std::path::PathBuf;

/// The name of a user, or the number where /etc/passwd does not know it.
pub(crate) fn name_of(uid: u32) -> String {
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    name_in(&String::from_utf8_lossy(&passwd), uid).unwrap_or_else(|| uid.to_string())
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|n| !n.is_empty())?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    })
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
    fn a_name_is_found_by_its_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\n::5:\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("alice"));
        assert_eq!(name_in(passwd, 5), None);
        assert_eq!(name_in(passwd, 7), None);
        assert_eq!(of_runtime_path("/run/user/1000/docker.sock".as_ref()), Some(1000));
        assert_eq!(of_runtime_path("/run/docker.sock".as_ref()), None);
    }
}
