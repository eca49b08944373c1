//! The user's shell as the command, with a prompt that shows where one is.
//!
//! The prompt is set by a start-up file that reads the user's own first. It lies in a directory that is mounted nowhere
//! and that the shell alone has, behind a descriptor: nothing is written to a home directory, and /etc may stay the
//! host's. The target's name is never put into the file: it could hold shell syntax; the file names the variable
//! `SNORKEL_TARGET` instead.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use snorkel_netns::enter::EtcFile;

/// A shell, its arguments and the files they name.
#[derive(Debug)]
pub(crate) struct Shell {
    /// What is executed.
    pub(crate) command: Vec<OsString>,
    /// Start-up files that the arguments name, in the directory behind the descriptor.
    pub(crate) files: Vec<EtcFile>,
    /// Variables on top of the environment.
    pub(crate) env: Vec<(OsString, OsString)>,
}

/// bash reads this in the place of ~/.bashrc (bash(1), `--rcfile`). A prompt variable is expanded once, and the result
/// is not expanded again (`promptvars`). What the shell starts has no use for the descriptor.
const BASHRC: &str = "exec @FD@<&-
[ -f /etc/bash.bashrc ] && . /etc/bash.bashrc
[ -f ~/.bashrc ] && . ~/.bashrc
PS1='(${SNORKEL_TARGET}) '\"$PS1\"
";

/// zsh reads its start-up files from ZDOTDIR (zsh(1), STARTUP/SHUTDOWN FILES).
const ZSHENV: &str = "[ -f ~/.zshenv ] && . ~/.zshenv
";
const ZSHRC: &str = "SNORKEL_FD=@FD@; exec {SNORKEL_FD}<&-; unset SNORKEL_FD
ZDOTDIR=${SNORKEL_ZDOTDIR:-$HOME}
[ -f \"$ZDOTDIR/.zshrc\" ] && . \"$ZDOTDIR/.zshrc\"
setopt prompt_subst
PROMPT='(${SNORKEL_TARGET//\\%/%%}) '\"$PROMPT\"
";

/// fish has no file for it, but runs a command after its own start-up (fish(1), `--init-command`).
const FISH: &str = "functions -q fish_prompt; and functions -c fish_prompt __snorkel_prompt; \
function fish_prompt; echo -n \"($SNORKEL_TARGET) \"; \
functions -q __snorkel_prompt; and __snorkel_prompt; end";

/// The shell by its path, made to show `target` in its prompt; its start-up files are found behind descriptor `fd`.
pub(crate) fn shell(path: &OsStr, target: &str, fd: i32) -> Shell {
    let file = |name: &str, content: &str| EtcFile {
        path: name.into(),
        content: content.replace("@FD@", &fd.to_string()).into_bytes(),
    };
    let dir = format!("/proc/self/fd/{fd}");
    let name = Path::new(path).file_name().unwrap_or(path).to_string_lossy().into_owned();
    let mut shell = Shell { command: vec![path.to_owned()], files: Vec::new(), env: Vec::new() };
    match name.as_str() {
        "bash" => {
            shell.command.extend(["--rcfile".into(), format!("{dir}/bashrc").into()]);
            shell.files.push(file("bashrc", BASHRC));
        }
        "zsh" => {
            if let Some(dir) = std::env::var_os("ZDOTDIR") {
                shell.env.push(("SNORKEL_ZDOTDIR".into(), dir));
            }
            shell.env.push(("ZDOTDIR".into(), dir.into()));
            shell.files.push(file(".zshenv", ZSHENV));
            shell.files.push(file(".zshrc", ZSHRC));
        }
        "fish" => shell.command.extend(["--init-command".into(), FISH.into()]),
        // A POSIX shell takes its prompt from the environment (sh(1p), PS1); names with syntax in them stay out.
        _ => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/".contains(c);
            let shown: String = target.chars().map(|c| if plain(c) { c } else { '?' }).collect();
            let end = if rustix::process::geteuid().is_root() { '#' } else { '$' };
            shell.env.push(("PS1".into(), format!("({shown}) {end} ").into()));
        }
    }
    shell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_never_becomes_shell_text() {
        for path in ["/bin/bash", "/bin/zsh", "/usr/bin/fish", "/bin/dash"] {
            let shell = shell(OsStr::new(path), "docker:$(reboot)`reboot`", 99);
            assert!(!format!("{shell:?}").contains("reboot)"), "{path}");
        }
    }
}
