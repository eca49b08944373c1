//! `snorkel completions`: the shell asks this program what fits, so that the names of targets are those of the moment.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};
use snorkel_engines::Query;

use crate::cli::Cli;
use crate::commands::print;
use crate::failure::Outcome;

/// The variable by which the script that is printed calls back.
const VARIABLE: &str = "SNORKEL_COMPLETE";
/// Nobody waits longer for a tab key; an engine that is slower is left out.
const PATIENCE: Duration = Duration::from_millis(700);

/// bash breaks words at colons (bash(1), COMP_WORDBREAKS), and `docker:web` is one word to snorkel: the parts are joined
/// before the question, and what stands before the last colon, which bash keeps by itself, is taken off the answers.
const BASH_COLONS: &str = r#"
_snorkel_with_colons() {
    local joined=() index=0 i
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        if ((i > 1)) && [[ ${COMP_WORDS[i]} == :* || ${COMP_WORDS[i-1]} == *: ]]; then
            joined[-1]+=${COMP_WORDS[i]}
        else
            joined+=("${COMP_WORDS[i]}")
        fi
        if ((i == COMP_CWORD)); then index=$((${#joined[@]} - 1)); fi
    done
    local COMP_WORDS=("${joined[@]}") COMP_CWORD=$index word=${joined[index]}
    _clap_complete_snorkel "$1" "$word" "$3"
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o nospace -o bashdefault -F _snorkel_with_colons snorkel
"#;

/// Print the completion script of a shell; names of targets complete live
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(snorkel completions bash)          in ~/.bashrc
  snorkel completions zsh > ~/.zfunc/_snorkel with ~/.zfunc in fpath
  snorkel completions fish > ~/.config/fish/completions/snorkel.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    /// Prints the script.
    pub(crate) fn run(self) -> Outcome {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "snorkel", "snorkel", "snorkel", &mut script)?;
        if matches!(self.shell, Shell::Bash) {
            script.extend_from_slice(BASH_COLONS.as_bytes());
        }
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Answers the shell's question and ends, if this is one.
pub(crate) fn answer_if_asked() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// Completes the names of the targets that run now.
pub(crate) fn targets() -> ArgValueCompleter {
    ArgValueCompleter::new(candidates)
}

fn candidates(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let answer = snorkel_engines::list(&Query { timeout: PATIENCE, ..Query::default() });
    let mut names: Vec<(String, String)> = Vec::new();
    for (container, called) in answer.containers.iter().zip(snorkel_engines::called(&answer.containers)) {
        if container.pid.is_none() && container.netns_path.is_none() {
            continue;
        }
        // The plain name is offered too, as long as it means just this one.
        if called.short != called.name {
            names.push((called.short, container.engine.to_string()));
        }
        names.push((called.name, container.status.clone()));
    }
    names.retain(|(name, _)| name.starts_with(&*typed));
    names.into_iter().map(|(name, help)| CompletionCandidate::new(name).help(Some(help.into()))).collect()
}
