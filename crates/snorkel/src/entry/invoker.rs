//! Who called sudo: the user behind root, with the PATH and HOME that sudo took away.
//!
//! sudo says who called it (`SUDO_UID`, sudo(8), "ENVIRONMENT"), doas and pkexec likewise. The caller's PATH is in no
//! variable; but sudo itself is an ancestor of this process, and was started with the caller's environment, which root
//! may read in /proc.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;

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
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let caller = variable("SUDO_UID").or_else(|| variable("PKEXEC_UID")).or_else(|| variable("DOAS_USER"));
    let uid = rustix::process::geteuid().as_raw();
    let spec = match caller {
        Some(caller) if uid == 0 => caller,
        _ => uid.to_string(),
    };
    let user = User::find(&spec)?
        .ok_or_else(|| Failure::new(format!("'-u me': the invoking user '{spec}' is not in /etc/passwd")))?;
    let path = path_of(user.uid);
    Ok(Invoker { user, path })
}

/// The PATH in the environment of the nearest ancestor that was started by this user's program: sudo, or their shell.
fn path_of(uid: u32) -> Option<OsString> {
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
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            return variable(&environment, b"PATH=");
        }
        pid = field("PPid:").and_then(|parent| i32::try_from(parent).ok()).filter(|parent| *parent > 1)?;
    }
    None
}

fn variable(environment: &[u8], key: &[u8]) -> Option<OsString> {
    let entry = environment.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(key))?;
    (!entry.is_empty()).then(|| OsStr::from_bytes(entry).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let environment = b"XPATH=/x\0PATH=/home/ann/bin:/bin\0HOME=/home/ann\0";
        assert_eq!(variable(environment, b"PATH="), Some(OsString::from("/home/ann/bin:/bin")));
        assert_eq!(variable(b"PATH=\0", b"PATH="), None);
    }
}
