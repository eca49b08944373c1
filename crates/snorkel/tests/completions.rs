//! Completion in real shells, with the names of the targets of the moment. Needs root, for the lab.

mod common;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use common::fake::{Fake, http};
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
    shell_with(program, script, &[])
}

/// The same, with more in its environment.
#[track_caller]
fn shell_with(program: &str, script: &str, environment: &[(&str, &str)]) -> String {
    // A home of its own: shells like to keep what they have found out.
    let home = tempfile::tempdir().unwrap_or_else(|e| panic!("a home for the shell: {e}"));
    // A shell that waits for what never comes is a failure, not the end of all tests.
    let done = Command::new("timeout")
        .args(["120", program, "-c", script])
        .env("PATH", path())
        .env("HOME", home.path())
        .envs(environment.iter().copied())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_DATA_HOME")
        .stdin(Stdio::null())
        .output();
    let done = done.unwrap_or_else(|e| panic!("{program} is needed by this test: {e}"));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{program}: {text}{}", String::from_utf8_lossy(&done.stderr));
    text
}

/// What bash offers for words as it splits them: a colon and an equals sign are words of their own.
#[track_caller]
fn bash(words: &[&str]) -> Vec<String> {
    // compopt is for bash's own use of the function.
    let script = format!(
        "source <(snorkel completions bash); COMP_WORDBREAKS=$' \\t\\n:='; COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         compopt() {{ :; }}; _snorkel snorkel \"${{COMP_WORDS[COMP_CWORD]}}\" x; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1
    );
    let said = shell("bash", &script);
    // What stands in two folders of PATH is offered twice, and shown once.
    said.lines().map(|line| line.trim_end().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What fish offers for a command line, without the descriptions.
#[track_caller]
fn fish(line: &str) -> Vec<String> {
    let script = format!("snorkel completions fish | source; complete -C '{line}'");
    shell("fish", &script).lines().filter_map(|line| line.split('\t').next().map(str::to_owned)).collect()
}

/// What an interactive zsh makes of a command line when the tab key is pressed behind it. The script is a file of its
/// fpath, or is sourced.
#[track_caller]
fn zsh(line: &str, sourced: bool) -> String {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a home for the shell: {e}"));
    let dir = dir.path().display();
    // zpty (zshmodules(1)) gives the inner shell a terminal; ^X writes down what stands on the line by then.
    // -D: without it compinit writes a dump of what it found, to whatever path it is told.
    let (file, source) = match sourced {
        true => ("unused", "source <(snorkel completions zsh)"),
        false => ("_snorkel", "true"),
    };
    let script = format!(
        "zmodload zsh/zpty || exit
         snorkel completions zsh >{dir}/{file}
         zpty inner zsh -f -i
         zpty -w inner \"fpath=({dir} \\$fpath); autoload -Uz compinit && compinit -u -D; {source}\"
         zpty -w inner \"report() {{ print -r -- \\$BUFFER >{dir}/line; exit; }}; zle -N report; bindkey ^X report\"
         zpty -w inner \"zstyle ':completion:*' insert-tab false; print rea''dy\"
         until [[ $said == *ready* ]]; do zpty -r inner part || exit; said+=$part; done
         zpty -n -w inner $'{line}\\t\\x18'
         while zpty -r inner part; do said+=$part; done
         cat {dir}/line || print -r -- $said"
    );
    shell("zsh", &script).trim_end().to_owned()
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
    // `snorkel TARGET` is the short form.
    assert_eq!(bash(&["snorkel", "lab", ":", &format!("{}/we", lab.name)]), [format!("{}/web", lab.name)]);
}

#[test]
fn what_an_engine_calls_its_containers_is_no_command_of_the_shell() {
    let dir = tempfile::tempdir().unwrap_or_else(|e| panic!("a folder: {e}"));
    let file = dir.path().join("pwned").display().to_string();
    let (name, label) = (format!("x$(touch {file})*`touch {file}`"), format!("a;$(touch {file})"));
    let id = |digit: &str| digit.repeat(64);
    let list = format!(
        r#"[{{"Id":"{}","Names":["/{name}"],"State":"running","Status":"Up","Labels":{{"app":"{label}"}}}},
            {{"Id":"{}","Names":["/x\u001b[2J\nx"],"State":"running","Status":"Up","Labels":{{"app":"a\r\u000b"}}}}]"#,
        id("a"),
        id("b")
    );
    let process = std::process::id();
    let one = move |path: &str| {
        let id = if path.contains("bbb") { "b" } else { "a" }.repeat(64);
        let state = format!(r#"{{"Status":"running","Running":true,"Pid":{process}}}"#);
        format!(r#"{{"Id":"{id}","Name":"/x","State":{state},"Config":{{}},"HostConfig":{{}}}}"#)
    };
    let body = list.clone();
    let docker = Fake::new(move |path| {
        Some(http("200 OK", &if path.contains("/containers/json") { body.clone() } else { one(path) }))
    });
    // What stands on the line after the tab key is what the shell then reads.
    for (words, wanted) in [("snorkel x", name), ("snorkel exec --each -l app = a", label)] {
        let script = format!(
            "source <(snorkel completions bash); COMP_WORDBREAKS=$' \\t\\n:='; COMP_WORDS=({words});
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_TYPE=9; compopt() {{ :; }}
             _snorkel snorkel \"${{COMP_WORDS[COMP_CWORD]}}\" x; eval \"set -- ${{COMPREPLY[*]}}\"; printf '%s\\n' \"$@\""
        );
        let said = shell_with("bash", &script, &[("DOCKER_HOST", &docker.host())]);
        assert_eq!(said.lines().map(str::trim_end).collect::<Vec<_>>(), [wanted], "{words}");
    }
    assert!(!std::path::Path::new(&file).exists(), "the shell ran it");
}

#[test]
fn values_of_options_complete() {
    let lab = lab(LabSpec::default());
    assert_eq!(bash(&["snorkel", "exec", "--dns", "h"]), ["host"]);
    assert_eq!(bash(&["snorkel", "exec", "--dns", "=", "h"]), ["host"]);
    assert_eq!(bash(&["snorkel", "exec", "-u", "nobo"]), ["nobody"]);
    assert_eq!(bash(&["snorkel", "exec", "--ns", "net,ut"]), ["net,uts"]);
    assert_eq!(bash(&["snorkel", "ls", "--engine", "pod"]), ["podman"]);
    assert_eq!(bash(&["snorkel", "which", "l"]), ["lo"]);
    assert_eq!(bash(&["snorkel", "lab", "down", &lab.name]), std::slice::from_ref(&lab.name));
}

#[test]
fn behind_the_target_the_hosts_commands_complete_and_their_files() {
    let lab = lab(LabSpec::default());
    let (name, web) = (format!("{}/web", lab.name), target(&lab, "web"));
    assert_eq!(bash(&["snorkel", "exec", "lab", ":", &name, "--", "getco"]), ["getconf"]);
    assert_eq!(bash(&["snorkel", "lab", ":", &name, "getco"]), ["getconf"]);
    assert_eq!(bash(&["snorkel", "lab", ":", &name, "cat", "/etc/pass"])[0], "/etc/passwd");
    assert_eq!(fish(&format!("snorkel exec {web} -- getco")), ["getconf"]);
    assert_eq!(fish(&format!("snorkel {web} cat /etc/hostn")), ["/etc/hostname"]);
    let line = format!("snorkel exec {web} -- getconf");
    assert_eq!(zsh(&format!("snorkel exec {web} -- getcon"), true), line);
}

#[test]
fn fish_completes_targets() {
    let lab = lab(LabSpec::default());
    for before in ["exec ", "", "ls -a "] {
        let found = fish(&format!("snorkel {before}lab:{}/we", lab.name));
        assert_eq!(found, [target(&lab, "web")], "{before}");
    }
}

#[test]
fn zsh_completes_targets() {
    let lab = lab(LabSpec::default());
    for sourced in [true, false] {
        for before in ["exec", "ls -a"] {
            let line = format!("snorkel {before} {}", target(&lab, "web"));
            let done = zsh(line.strip_suffix('b').unwrap_or(&line), sourced);
            assert_eq!(done.replace('\\', ""), line, "sourced: {sourced}");
        }
    }
}
