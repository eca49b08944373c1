//! Who called sudo: the user behind root, with the PATH and HOME that sudo took away.
//!
//! sudo says who called it (`SUDO_UID`, sudo(8), "ENVIRONMENT"), doas and pkexec likewise. The caller's PATH is in no
//! variable; but sudo itself is an ancestor of this process, and was started with the caller's environment, which root
//! may read in /proc.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use snorkel_netns::user::User;

use crate::failure::Failure;

/// How many ancestors are looked at: sudo, its monitor, a script or two.
const GENERATIONS: usize = 8;

/// The invoking user and what is left of their environment.
#[derive(Debug)]
pub(crate) struct Invoker {
    /// Who it is.
    pub(crate) user: User,
    /// Their PATH, where it can be known.
    pub(crate) path: Option<OsString>,
}

/// The user who called sudo, doas or pkexec; without one of these, the user who runs this.
pub(crate) fn invoker() -> Result<Invoker, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let caller = variable("SUDO_UID").or_else(|| variable("PKEXEC_UID")).or_else(|| variable("DOAS_USER"));
    let uid = rustix::process::geteuid().as_raw();
    let spec = match caller {
        Some(caller) if uid == 0 => caller,
        _ => uid.to_string(),
    };
    let mut user = User::find(&spec)?
        .ok_or_else(|| Failure::new(format!("'-u me': the invoking user '{spec}' is not in /etc/passwd")))?;
    let environment = environment_of(user.uid).unwrap_or_default();
    // A directory service knows this one (LDAP, sssd), and sudo has asked it.
    if user.name.is_none() && uid == 0 && variable("SUDO_UID") == Some(user.uid.to_string()) {
        user = as_sudo_says(user, variable, &environment);
    }
    Ok(Invoker { user, path: variable_of(&environment, b"PATH=") })
}

/// A user whom /etc/passwd does not know, with name and group as sudo says (sudo(8), "ENVIRONMENT"), and home and shell
/// as the environment has them in which sudo was started.
fn as_sudo_says(mut user: User, said: impl Fn(&str) -> Option<String>, environment: &[u8]) -> User {
    if let Some(gid) = said("SUDO_GID").and_then(|gid| gid.parse().ok()) {
        user.gid = gid;
        user.groups = vec![gid];
    }
    user.name = said("SUDO_USER");
    let path = |key| variable_of(environment, key).map(PathBuf::from).filter(|path| path.is_absolute());
    user.home = path(b"HOME=").unwrap_or(user.home);
    user.shell = path(b"SHELL=").unwrap_or(user.shell);
    user
}

/// The environment of the nearest ancestor that was started by this user's program: sudo, or their shell.
fn environment_of(uid: u32) -> Option<Vec<u8>> {
    let mut pid = rustix::process::getppid()?.as_raw_nonzero().get();
    for _ in 0..GENERATIONS {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_ascii_whitespace().next()?.parse::<i64>().ok()
        };
        // sudo runs as root, but its environment is its caller's; a process of the caller's own has it anyhow.
        if matches!(comm.trim_end(), "sudo" | "doas" | "pkexec") || field("Uid:") == Some(i64::from(uid)) {
            return fs::read(format!("/proc/{pid}/environ")).ok();
        }
        pid = field("PPid:").and_then(|parent| i32::try_from(parent).ok()).filter(|parent| *parent > 1)?;
    }
    None
}

fn variable_of(environment: &[u8], key: &[u8]) -> Option<OsString> {
    let entry = environment.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(key))?;
    (!entry.is_empty()).then(|| OsStr::from_bytes(entry).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"XPATH=/x\0PATH=/home/ann/bin:/bin\0HOME=/home/ann\0";
        assert_eq!(variable_of(environment, b"PATH="), Some(OsString::from("/home/ann/bin:/bin")));
        assert_eq!(variable_of(b"PATH=\0", b"PATH="), None);
    }

    #[test]
    fn of_a_user_whom_only_a_directory_knows_sudo_says_the_rest() {
        let user = User::find("4000012345").unwrap().unwrap();
        assert_eq!((user.name.as_deref(), user.gid), (None, 4_000_012_345));
        let said = |name: &str| match name {
            "SUDO_GID" => Some("100".to_owned()),
            "SUDO_USER" => Some("ann".to_owned()),
            _ => None,
        };
        let ann = as_sudo_says(user.clone(), said, b"HOME=/home/ann\0SHELL=/bin/zsh\0");
        assert_eq!((ann.name.as_deref(), ann.gid, &ann.groups[..]), (Some("ann"), 100, &[100][..]));
        assert_eq!((ann.home, ann.shell), (PathBuf::from("/home/ann"), PathBuf::from("/bin/zsh")));
        let bare = as_sudo_says(user.clone(), |_| None, b"HOME=relative\0");
        assert_eq!(bare, user);
    }
}
