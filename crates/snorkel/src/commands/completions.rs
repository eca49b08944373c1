//! `snorkel completions`: the shell asks this program what fits, so that the names of targets are those of the moment.
//!
//! Behind the target comes a command of the host, which the shell itself knows best how to complete: the scripts ask
//! first where that command begins.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Zsh};

use crate::cli::Cli;
use crate::commands::print;
use crate::failure::Outcome;

/// The variable by which the script that is printed calls back.
const VARIABLE: &str = "SNORKEL_COMPLETE";
/// Its value in the question where the command of the host begins: `snorkel INDEX WORD...`.
const WHERE: &str = "where-the-command-begins";

/// bash breaks words at colons and equals signs (bash(1), COMP_WORDBREAKS), and `docker:web` is one word to snorkel: the
/// parts are joined before the question, and what stands before the last break, which bash keeps by itself, is taken
/// off the answers. bash puts an answer on the line as it stands, to be read as a command's words: each is quoted, and so
/// no name can hold a command, nor be a pattern. Behind a quote that was typed, where this would be another text, nothing
/// is offered. `_command_offset` is of the bash-completion package, which may not be there.
const BASH: &str = r#"
_snorkel() {
    local joined=() starts=() index=0 i
    for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
        if ((i > 1)) && [[ ${COMP_WORDS[i]} == [:=]* || ${COMP_WORDS[i-1]} == *[:=] ]]; then
            joined[-1]+=${COMP_WORDS[i]}
        else
            joined+=("${COMP_WORDS[i]}")
            starts+=("$i")
        fi
        if ((i == COMP_CWORD)); then index=$((${#joined[@]} - 1)); fi
    done
    local at
    at=$(SNORKEL_COMPLETE=where-the-command-begins snorkel "$index" "${joined[@]}" 2>/dev/null)
    if [[ -n $at ]]; then
        at=${starts[at]}
        if declare -F _comp_command_offset >/dev/null; then
            _comp_command_offset "$at"
        elif declare -F _command_offset >/dev/null; then
            _command_offset "$at"
        elif ((at == COMP_CWORD)); then
            mapfile -t COMPREPLY < <(compgen -c -- "$2")
            compopt +o nospace 2>/dev/null
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$2")
            compopt -o filenames +o nospace 2>/dev/null
        fi
        return
    fi
    local COMP_WORDS=("${joined[@]}") COMP_CWORD=$index word=${joined[index]} breaks=''
    [[ $word == *[\"\'\\]* ]] && return
    # The answers are split into words there, which must not become names of files.
    local glob=+f
    [[ $- == *f* ]] && glob=-f
    set -f
    _clap_complete_snorkel "$1" "$word" "$3"
    set "$glob"
    [[ $COMP_WORDBREAKS == *:* ]] && breaks+=:
    [[ $COMP_WORDBREAKS == *=* ]] && breaks+==
    if [[ -n $breaks && $word == *[$breaks]* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*[$breaks]}"}"}")
    fi
    for i in "${!COMPREPLY[@]}"; do
        [[ ${COMPREPLY[i]} == *[![:alnum:]_.,:=@%+/-]* ]] && printf -v "COMPREPLY[i]" %q "${COMPREPLY[i]}"
    done
}
complete -o nospace -o bashdefault -F _snorkel snorkel
"#;

/// The last line is for the script as a file `_snorkel` of fpath, which zsh runs when it is first needed.
const ZSH: &str = r#"
function _snorkel() {
    local at=$(SNORKEL_COMPLETE=where-the-command-begins snorkel $((CURRENT - 1)) "${words[@]}")
    if [[ -n $at ]]; then
        shift $at words
        (( CURRENT -= at ))
        _normal
    else
        _clap_dynamic_completer_snorkel
    fi
}
compdef _snorkel snorkel
[[ $funcstack[1] != _snorkel ]] || _snorkel "$@"
"#;

const FISH: &str = r#"function __snorkel_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l token (commandline --current-token)
    set -l at (SNORKEL_COMPLETE=where-the-command-begins snorkel (count $words) $words "$token")
    if test -n "$at"
        # fish counts from 1.
        set -l command (string escape -- $words[(math $at + 1)..-1])
        test (count $words) -gt "$at" || set command
        complete --do-complete (string join ' ' -- $command "$token")
    else
        SNORKEL_COMPLETE=fish snorkel -- $words "$token"
    end
end
complete --keep-order --exclusive --command snorkel --arguments "(__snorkel_complete)"
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
        let (shell, own): (Option<&dyn EnvCompleter>, _) = match self.shell {
            Shell::Bash => (Some(&Bash), BASH),
            Shell::Zsh => (Some(&Zsh), ZSH),
            Shell::Fish => (None, FISH),
        };
        let mut script = Vec::new();
        if let Some(shell) = shell {
            shell.write_registration(VARIABLE, "snorkel", "snorkel", "snorkel", &mut script)?;
        }
        script.extend_from_slice(own.as_bytes());
        print(&String::from_utf8_lossy(&script))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Answers the shell's question and ends, if this is one.
pub(crate) fn answer_if_asked() {
    match std::env::var_os(VARIABLE) {
        None => {}
        Some(question) if question == WHERE => {
            let mut words = std::env::args_os().skip(1);
            let index = words.next().and_then(|word| word.to_str()?.parse().ok()).unwrap_or(0);
            if let Some(at) = command_at(&Cli::command(), &words.collect::<Vec<_>>(), index) {
                // With the shell gone there is nobody to tell.
                let _ = writeln!(std::io::stdout(), "{at}");
            }
            std::process::exit(0)
        }
        Some(_) => CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete(),
    }
}

/// Where among the words (the first is `snorkel`) the host's command begins, if the word of this index is in it.
fn command_at(cli: &Command, words: &[OsString], index: usize) -> Option<usize> {
    let exec = cli.find_subcommand("exec")?;
    let mut each = false;
    let mut at = behind_options(&[cli], words, 1, &mut each);
    let first = words.get(at)?;
    if first == "exec" {
        at = behind_options(&[cli, exec], words, at + 1, &mut each);
    } else if cli.get_subcommands().any(|command| first == command.get_name()) || first == "help" {
        return None;
    }
    let command = if each {
        at + words.get(at..)?.iter().position(|word| word == "--")? + 1
    } else if words.get(at + 1).is_some_and(|word| word == "--") && index > at + 1 {
        at + 2
    } else {
        at + 1
    };
    (index >= command).then_some(command)
}

/// The index of the first word that is neither an option nor an option's value.
fn behind_options(commands: &[&Command], words: &[OsString], mut at: usize, each: &mut bool) -> usize {
    while let Some(word) = words.get(at).filter(|word| word.len() > 1 && is_dashed(word) && *word != "--") {
        *each |= word == "--each";
        at += if wants_value(commands, word) { 2 } else { 1 };
    }
    at
}

fn is_dashed(word: &OsStr) -> bool {
    word.as_encoded_bytes().starts_with(b"-")
}

/// Whether the value of this option is the next word: `--dns host` and `-vu me`, but not `--dns=host` and `-ume`.
fn wants_value(commands: &[&Command], word: &OsStr) -> bool {
    let Some(word) = word.to_str() else { return false };
    let takes_value = |is_it: &dyn Fn(&clap::Arg) -> bool| {
        let mut arguments = commands.iter().flat_map(|command| command.get_arguments());
        arguments.any(|argument| is_it(argument) && argument.get_action().takes_values())
    };
    match word.strip_prefix("--") {
        Some(long) => takes_value(&|argument| argument.get_long() == Some(long)),
        None => {
            let mut shorts = word.chars().skip(1);
            let taking = shorts.find(|short| takes_value(&|argument| argument.get_short() == Some(*short)));
            taking.is_some() && shorts.next().is_none()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Where the command begins if the last word is being typed.
    fn at(line: &str) -> Option<usize> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        command_at(&Cli::command(), &words, words.len() - 1)
    }

    #[test]
    fn the_command_begins_behind_the_target() {
        for (line, want) in [
            ("snorkel we", None),
            ("snorkel web ", Some(2)),
            ("snorkel web l", Some(2)),
            ("snorkel web ip addr ", Some(2)),
            ("snorkel web -- ip a", Some(3)),
            ("snorkel exec web -- l", Some(4)),
            ("snorkel exec we", None),
            ("snorkel exec -u ro", None),
            ("snorkel exec -u root we", None),
            ("snorkel exec -u root --dns=host -vw /tmp web l", Some(8)),
            ("snorkel -v --timeout 1s exec -uroot web l", Some(7)),
            ("snorkel --color never web l", Some(4)),
            ("snorkel exec --each web d", None),
            ("snorkel exec --each web db -- l", Some(6)),
            ("snorkel ls web d", None),
            ("snorkel which a b", None),
            ("snorkel help e", None),
            ("snorkel", None),
        ] {
            assert_eq!(at(line), want, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_words_make_it_panic(words in prop::collection::vec("[-a-z=]{0,6}", 0..8), index in 0usize..10) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            let _ = command_at(&Cli::command(), &words, index);
        }
    }
}
