//! Finding and executing the command: the shell's rules, and its exit codes 126 and 127 when that fails.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;

use crate::user::c_string;
use crate::{Error, Result};

/// What execvp(3) searches if PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Replaces this process by the command; only ever returns an error.
pub(super) fn exec(command: &[OsString], env: &[(OsString, OsString)]) -> Error {
    match try_exec(command, env) {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn try_exec(command: &[OsString], env: &[(OsString, OsString)]) -> Result<std::convert::Infallible> {
    let name = command.first().cloned().unwrap_or_default();
    let args = command.iter().map(|a| c_string("an argument", a.clone())).collect::<Result<Vec<_>>>()?;
    let env_strings = env
        .iter()
        .map(|(key, value)| {
            let mut pair = key.clone();
            pair.push("=");
            pair.push(value);
            c_string("the environment", pair)
        })
        .collect::<Result<Vec<_>>>()?;
    let path = env.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let mut worst = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(&name, path) {
        // An execve that fails costs a hundred times what this look does, and PATH is long.
        if let Err(absent @ (Errno::NOENT | Errno::NOTDIR)) = rustix::fs::access(&candidate, Access::EXISTS) {
            tracing::trace!("{}: {absent}", candidate.display());
            continue;
        }
        let error = execve(&candidate, &args, &env_strings)?;
        match error.raw_os_error() {
            // A script without a first line that names its interpreter is the shell's (execvp(3)).
            Some(libc::ENOEXEC) => {
                let shell = c"/bin/sh".to_owned();
                let script = c_string("the script's path", candidate.clone().into_os_string())?;
                let mut by_shell = vec![shell, script];
                by_shell.extend(args.iter().skip(1).cloned());
                worst = execve(Path::new("/bin/sh"), &by_shell, &env_strings)?;
                break;
            }
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            _ => worst = error,
        }
    }
    Err(Error::Exec { command: name, source: worst })
}

/// Where the command may be: the path itself if it has a slash, otherwise in each directory of PATH.
fn candidates(name: &OsStr, path: Option<&OsStr>) -> Vec<PathBuf> {
    if name.is_empty() {
        return Vec::new();
    }
    if name.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(name)];
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    std::env::split_paths(path).map(|dir| dir.join(name)).collect()
}

/// execve(2); what it returns is why it did not happen.
fn execve(path: &Path, args: &[CString], env: &[CString]) -> Result<io::Error> {
    let path = c_string("the command's path", path.as_os_str().to_owned())?;
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: both arrays end in a null pointer and point to NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Ok(io::Error::last_os_error())
}

/// Gives SIGPIPE back its default action, which Rust's runtime took before main (the command is to die of it).
pub(super) fn restore_signals() {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_not_searched_for() {
        assert_eq!(candidates(OsStr::new("./x"), Some(OsStr::new("/bin"))), [PathBuf::from("./x")]);
    }

    #[test]
    fn a_plain_name_is_searched_in_the_order_of_path() {
        let found = candidates(OsStr::new("ip"), Some(OsStr::new("/a:/b")));
        assert_eq!(found, [PathBuf::from("/a/ip"), PathBuf::from("/b/ip")]);
    }

    #[test]
    fn a_command_that_is_nowhere_is_named() {
        let error = exec(&["no-such-command".into()], &[("PATH".into(), "/nowhere".into())]);
        assert!(matches!(&error, Error::Exec { source, .. } if source.kind() == io::ErrorKind::NotFound));
        assert_eq!(error.to_string(), "cannot execute no-such-command");
    }
}
