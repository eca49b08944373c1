//! What can be typed: the commands, the options that all of them take, and what a mistake is answered with.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use snorkel_engines::{Engine, Query};

use crate::commands::{
    apply, block, capture, complete, completions, cut, doctor, exec, faults, heal, impair, lab, ls, man,
    partition, read, tap, which,
};
use crate::failure::{Failure, Outcome};
use crate::log;
use crate::render::style::{Style, When};

/// Work inside any running container's network with the host's own tools.
///
/// A TARGET is a container, pod, named namespace or process: its name, a unique prefix of its id, or qualified:
/// docker:web, podman:alice/web, containerd:k8s.io/ID, pod:default/web-0, netns:blue, netns:/path, pid:4711, lab:web.
#[derive(Debug, Parser)]
#[command(
    name = "snorkel",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    subcommand_required = true,
    add = complete::external(),
    allow_external_subcommands = true,
    override_usage = "snorkel [OPTIONS] <COMMAND>\n       snorkel [OPTIONS] <TARGET> [-- CMD...]",
    after_help = "Examples:
  snorkel ls                         who is there, and where each is plugged in
  snorkel web                        a shell of the host in web's network
  snorkel exec docker:web -- ss -tln the host's ss, in web's network
  snorkel which veth2e7d114          whose host link is that?
  snorkel which 172.17.0.2           whose address?
  snorkel doctor                     what this kernel and these rights allow

`snorkel COMMAND --help` has more examples."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Globals {
    /// Say what is done; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How long each engine may take to answer, as 500ms, 2s or 1m
    #[arg(long, global = true, value_name = "TIME", default_value = "2s", value_parser = duration)]
    timeout: Duration,
    /// Use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: When,
}

impl Default for Globals {
    /// Where nothing is said.
    fn default() -> Globals {
        Globals { verbose: 0, timeout: Duration::from_secs(2), color: When::Auto }
    }
}

impl Globals {
    /// Starts the log on stderr: silent but for warnings unless `-v` was given.
    pub(crate) fn start_log(&self) {
        let level = match self.verbose {
            0 => tracing::Level::WARN,
            1 => tracing::Level::INFO,
            _ => tracing::Level::DEBUG,
        };
        log::start(level, self.color);
    }

    /// The question to the engines: all of them, or only these.
    pub(crate) fn query(&self, engines: &[Engine]) -> Query {
        let mut query = Query { timeout: self.timeout, ..Query::default() };
        if !engines.is_empty() {
            query.engines = Some(engines.to_vec());
        }
        query
    }

    /// Whether more is to be shown than usual.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    /// How stdout is to look.
    pub(crate) fn style(&self) -> Style {
        Style::of_stdout(self.color)
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Ls(ls::Ls),
    Which(which::Which),
    Exec(exec::Exec),
    Capture(Box<capture::Capture>),
    Read(read::Read),
    Cut(cut::Cut),
    Block(block::Block),
    Partition(partition::Partition),
    Impair(Box<impair::Impair>),
    Apply(apply::Apply),
    Faults(faults::Faults),
    Heal(heal::Heal),
    Tap(Box<tap::Tap>),
    Doctor(doctor::Doctor),
    Lab(lab::Lab),
    Completions(completions::Completions),
    Man(man::Man),
    /// `snorkel TARGET`: the same as `snorkel exec TARGET`.
    #[command(external_subcommand)]
    Target(Vec<OsString>),
}

/// The same command line with `exec` alone.
#[derive(Debug, Parser)]
#[command(name = "snorkel")]
struct ExecOnly {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: ExecCommand,
}

#[derive(Debug, Subcommand)]
enum ExecCommand {
    Exec(exec::Exec),
}

impl Cli {
    /// Reads what was typed.
    ///
    /// `exec` is the one command that people put into loops, and to build the parsers of all commands for it would be a
    /// fifth of its time. Without an option none is needed: behind a target nothing is an option of ours.
    pub(crate) fn read(words: &[OsString]) -> Result<Cli, clap::Error> {
        if words.get(1).is_some_and(|word| word == "exec") {
            if words.get(2).is_some_and(|target| !target.as_encoded_bytes().starts_with(b"-")) {
                let exec = exec::Exec::plain(words[2..].to_vec());
                return Ok(Cli { globals: Globals::default(), command: Command::Exec(exec) });
            }
            // Help and mistakes are left to the whole parser, which knows all that could have been meant.
            if let Ok(ExecOnly { globals, command: ExecCommand::Exec(exec) }) =
                ExecOnly::try_parse_from(words)
            {
                return Ok(Cli { globals, command: Command::Exec(exec) });
            }
        }
        if command(words).is_some_and(|command| command == "partition") {
            return Cli::try_parse_from(with_arrows(words));
        }
        Cli::try_parse_from(words)
    }

    /// Runs the command.
    pub(crate) fn run(self) -> Outcome {
        let globals = &self.globals;
        if !matches!(self.command, Command::Heal(_)) {
            heal::mend_first();
        }
        match self.command {
            Command::Ls(command) => command.run(globals),
            Command::Which(command) => command.run(globals),
            Command::Exec(command) => command.run(globals),
            Command::Capture(command) => command.run(globals),
            Command::Read(command) => command.run(globals),
            Command::Cut(command) => command.run(globals),
            Command::Block(command) => command.run(globals),
            Command::Partition(command) => command.run(globals),
            Command::Impair(command) => command.run(globals),
            Command::Apply(command) => command.run(globals),
            Command::Faults(command) => command.run(globals),
            Command::Heal(command) => command.run(globals),
            Command::Tap(command) => command.run(globals),
            Command::Doctor(command) => command.run(globals),
            Command::Lab(command) => command.run(globals),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
            Command::Target(words) => run_target(words, globals),
        }
    }
}

/// The word that names the command: the first one that is neither a global option nor the value of one.
fn command(words: &[OsString]) -> Option<&OsString> {
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_encoded_bytes() {
            b"--timeout" | b"--color" => _ = words.next(),
            [b'-', ..] => {}
            _ => return Some(word),
        }
    }
    None
}

/// The words with `->` as the arrow that it stands for between the groups of `partition`: it looks like an option.
pub(crate) fn with_arrows(words: &[OsString]) -> Vec<OsString> {
    let ours = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let arrow = |(at, word): (usize, &OsString)| {
        if at < ours && word == "->" { OsString::from("→") } else { word.clone() }
    };
    words.iter().enumerate().map(arrow).collect()
}

/// `snorkel TARGET …` is read once more as `snorkel exec TARGET …`, so that it takes the same options.
fn run_target(words: Vec<OsString>, globals: &Globals) -> Outcome {
    let typed = words.first().cloned().unwrap_or_default();
    let again = [OsString::from("snorkel"), OsString::from("exec")].into_iter().chain(words);
    let again: Vec<OsString> = again.collect();
    let exec = match Cli::read(&again) {
        Ok(Cli { command: Command::Exec(exec), .. }) => exec,
        Ok(_) => return Err(Failure::new("that is neither a command nor a target")),
        Err(wrong) => return Ok(usage(&wrong, &again)),
    };
    exec.run(globals).map_err(|failure| match near_command(&typed) {
        Some(command) => failure.hint(format!("snorkel {command}, if the command was meant")),
        None => failure,
    })
}

/// The command that was probably meant by a word that is none.
fn near_command(word: &OsStr) -> Option<&'static str> {
    let word = word.to_str()?;
    [
        "ls",
        "which",
        "exec",
        "capture",
        "read",
        "cut",
        "block",
        "partition",
        "impair",
        "apply",
        "faults",
        "heal",
        "tap",
        "doctor",
        "lab",
        "completions",
        "man",
        "help",
    ]
    .into_iter()
    .find(|command| strsim::damerau_levenshtein(command, word) == 1)
}

/// Prints help, version or a mistake, and gives the status: a mistake before a command is 125 for `exec`, as the
/// status of the command must not be confused with it; 2 otherwise.
pub(crate) fn usage(wrong: &clap::Error, words: &[OsString]) -> ExitCode {
    let text = wrong.render().to_string();
    // With the output gone there is nobody to tell.
    let _ = match text.strip_prefix("error: ") {
        // As all other mistakes are told.
        Some(rest) => write!(std::io::stderr(), "snorkel: {rest}"),
        None => wrong.print(),
    };
    match wrong.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ if command(words).is_some_and(|command| command == "exec") => ExitCode::from(exec::FAILED),
        _ => ExitCode::from(2),
    }
}

/// A time span as people write it: `500ms`, `2s`, `1m`; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("no unit of time '{other}'; there are ms, s, m, h")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("'{digits}' is not a number"))?;
    Duration::try_from_secs_f64(number * unit)
        .ok()
        .filter(|span| !span.is_zero() && *span <= Duration::from_secs(24 * 3600))
        .ok_or_else(|| "a time between 1ms and 24h is needed".to_owned())
}

/// A number of bytes as people write it: `64MiB`, `100MB`, `512K` (1024 each), `4096`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        other => return Err(format!("no unit of size '{other}'; there are KiB, MiB, GiB, kB, MB, GB")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("'{digits}' is not a number"))?;
    // Beyond 2^53 a float has no single bytes left, and no machine that much memory.
    Some(number * unit as f64)
        .filter(|bytes| (1.0..9e15).contains(bytes))
        .map(|bytes| bytes as u64)
        .ok_or_else(|| "a size of at least one byte is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_without_options_is_read_as_the_parser_reads_it() {
        for words in [
            "web",
            "docker:web -- true",
            "web ip -br addr",
            "web -- tcpdump -ni any --help",
            "web -v --timeout 5s",
            "web --each -- -- x",
            "ls",
            "help",
        ] {
            let words: Vec<_> =
                ["snorkel", "exec"].into_iter().chain(words.split(' ')).map(OsString::from).collect();
            let (read, parsed) = (Cli::read(&words).unwrap(), Cli::try_parse_from(&words).unwrap());
            assert_eq!(format!("{read:?}"), format!("{parsed:?}"));
        }
    }

    #[test]
    fn an_arrow_is_no_option() {
        let read = |words: &[&str]| Cli::read(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(read(&["snorkel", "partition", "a,b", "->", "c", "--dry-run"]).is_ok());
        assert!(read(&["snorkel", "--timeout", "5s", "partition", "a", "->", "c"]).is_ok());
        let words = ["partition", "--", "->"].map(OsString::from);
        assert_eq!(with_arrows(&words), words);
        // Nor is it one where it belongs to another's command.
        for words in [
            "exec web partition -> x",
            "exec -u me web partition -> x",
            "-v exec web partition -> x",
            "web partition -> x",
        ] {
            let words: Vec<&str> = ["snorkel"].into_iter().chain(words.split(' ')).collect();
            assert!(format!("{:?}", read(&words).unwrap()).contains("\"->\""), "{words:?}");
        }
    }

    #[test]
    fn a_mistake_is_told_by_the_status_of_the_command_that_it_was_made_in() {
        for (words, status) in [
            ("exec --ns nonsense web", 125),
            ("--timeout 5s exec --ns nonsense web", 125),
            ("ls --nonsense", 2),
        ] {
            let words: Vec<_> = ["snorkel"].into_iter().chain(words.split(' ')).map(OsString::from).collect();
            let wrong = Cli::read(&words).unwrap_err();
            assert_eq!(format!("{:?}", usage(&wrong, &words)), format!("{:?}", ExitCode::from(status)));
        }
    }

    #[test]
    fn time_spans_read_as_people_write_them() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "0s", "-1s", "1e30h", "2d", "NaN", "ä"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("100MB"), Ok(100_000_000));
        assert_eq!(size("1.5K"), Ok(1536));
        assert_eq!(size("4096"), Ok(4096));
        for wrong in ["", "MB", "0", "-1K", "10m", "1e300GB", "NaN", "1 GB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
