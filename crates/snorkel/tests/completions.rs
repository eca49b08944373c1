//! Completion in real shells, with the names of the targets of the moment. Needs root, for the lab.

mod common;

use std::process::{Command, Stdio};

use common::{SNORKEL, lab, target};
use snorkel_lab::LabSpec;

/// PATH with the binary under test first.
fn path() -> String {
    let dir = std::path::Path::new(SNORKEL).parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    format!("{dir}:{}", std::env::var("PATH").unwrap_or_default())
}

/// What a shell prints when it runs this script.
#[track_caller]
fn shell(program: &str, script: &str) -> String {
    // A home of its own: shells like to keep what they have found out.
    let home = tempfile::tempdir().unwrap_or_else(|e| panic!("a home for the shell: {e}"));
    let done = Command::new(program)
        .args(["-c", script])
        .env("PATH", path())
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null())
        .output();
    let done = done.unwrap_or_else(|e| panic!("{program} is needed by this test: {e}"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&done.stderr));
    text
}

/// What bash offers for words as it splits them: a colon is a word of its own.
#[track_caller]
fn bash(words: &[&str]) -> Vec<String> {
    let script = format!(
        "source <(snorkel completions bash); COMP_WORDBREAKS=$' \\t\\n:='; COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         _snorkel_with_colons snorkel \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1
    );
    shell("bash", &script).lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn bash_completes_commands_and_targets_also_behind_a_colon() {
    let lab = lab(LabSpec::default());
    assert_eq!(bash(&["snorkel", "wh"]), ["which"]);
    assert_eq!(
        bash(&["snorkel", "exec", "lab", ":", &format!("{}/we", lab.name)]),
        [format!("{}/web", lab.name)]
    );
    let whole = target(&lab, "client");
    assert!(bash(&["snorkel", "ls", "lab", ":"]).iter().any(|name| whole == format!("lab:{name}")));
}

#[test]
fn fish_completes_targets() {
    let lab = lab(LabSpec::default());
    let script = format!("snorkel completions fish | source; complete -C 'snorkel exec lab:{}/we'", lab.name);
    assert!(shell("fish", &script).contains(&target(&lab, "web")));
}

#[test]
fn zsh_takes_the_script() {
    // -D: without it compinit writes a dump of what it found, to whatever path it is told.
    let script = "autoload -Uz compinit && compinit -u -D; source <(snorkel completions zsh); whence -w _clap_dynamic_completer_snorkel";
    assert!(shell("zsh", script).contains("function"));
}
