//! `snorkel exec`: the host's tools in a target's network.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use snorkel_engines::{LabelFilter, TargetSpec};
use snorkel_netns::Error as NetnsError;
use snorkel_netns::enter::{Dns, Kind, PrivateMounts, Tie, enter};
use snorkel_topology::locate::{Located, locate_meanwhile};

use crate::cli::Globals;
use crate::commands::{complete, each, print, warn_all, warn_engines};
use crate::entry::plan::{Plan, Wishes, needs_user_namespace, plan};
use crate::failure::{Failure, Outcome};
use crate::render::text::printable;

/// snorkel failed before the command was there to run.
pub(crate) const FAILED: u8 = 125;
/// The command is there but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such command.
const NOT_FOUND: u8 = 127;

/// Run a command of the host in a target's network; without one, your shell
#[derive(Debug, Args)]
#[command(
    override_usage = "snorkel exec [OPTIONS] TARGET [--] [CMD...]\n       snorkel exec [OPTIONS] --each TARGET... -- CMD...",
    after_help = "Examples:
  snorkel exec web                          your shell, in web's network
  snorkel exec web -- ss -tlnp              one command
  snorkel exec docker:web -- tcpdump -ni any port 80
  snorkel exec --dns 10.0.0.53 web -- dig shop.example
  sudo snorkel exec -u me web -- curl db    as yourself, with your PATH and HOME
  snorkel exec --each web db -- ping -c1 gw in each of them
  snorkel exec --each -l app=shop -- ss -s  in each with that label
  snorkel exec --dry-run web -- ip a        what would be done, step by step

The net, uts and ipc namespaces are joined; files and tools are the host's. Names resolve as in the target: its
resolv.conf, hosts and search list lie over /etc for this one command, and what the command changes in /etc is gone
with it. The status is the command's own; 125: snorkel failed before; 126: not executable; 127: not found."
)]
pub(crate) struct Exec {
    /// Namespaces to join: net, uts, ipc; also pid, with care
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "net,uts,ipc", add = complete::kinds())]
    ns: Vec<Kind>,
    /// Whose names: `container`, `engine`, `host`, or name servers by address
    #[arg(long, value_name = "container|engine|host|IP,...", default_value = "container", value_parser = dns, add = complete::dns())]
    dns: Dns,
    /// Run as this user: a name or UID, with :GROUP or not, or `me` for who called sudo
    #[arg(short, long, add = complete::users())]
    user: Option<String>,
    /// Set a variable; without a value, to the one that it has here
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = OsStringValueParser::new().try_map(variable))]
    env: Vec<(OsString, Option<OsString>)>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Print what would be done, step by step, and the nearest nsenter line
    #[arg(long)]
    dry_run: bool,
    /// Run the command in each of several targets
    #[arg(long)]
    each: bool,
    /// With --each: in each running target with this label; may be repeated
    #[arg(short, long, value_name = "KEY[=VALUE]", requires = "each", add = complete::labels())]
    label: Vec<LabelFilter>,
    /// With --each: one JSON object per target, with its status and output
    #[arg(long, requires = "each")]
    json: bool,
    /// The target, then the command
    #[arg(
        value_name = "TARGET [--] CMD",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        add = complete::targets()
    )]
    words: Vec<OsString>,
}

impl Exec {
    /// The target and the command alone; everything else is as where nothing is said.
    pub(crate) fn plain(words: Vec<OsString>) -> Exec {
        Exec {
            ns: vec![Kind::Net, Kind::Uts, Kind::Ipc],
            dns: Dns::Container,
            user: None,
            env: Vec::new(),
            workdir: None,
            dry_run: false,
            each: false,
            label: Vec::new(),
            json: false,
            words,
        }
    }

    /// Enters the target and becomes the command, or runs it in each.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let failed = |failure: Failure| failure.code(FAILED);
        if self.each {
            let (targets, command) = split_each(&self.words, !self.label.is_empty()).map_err(failed)?;
            let options = each::Options { label: self.label.clone(), json: self.json, dry_run: self.dry_run };
            return each::run(globals, targets, self.wishes(command), options).map_err(failed);
        }
        let (target, command) = split(&self.words).map_err(failed)?;
        // The engine needs longer for its answer than the private mounts for being made: they cost no time here.
        let early = !self.dry_run && !needs_user_namespace(&self.ns);
        let mut mounts = None;
        let prepare = || mounts = early.then(PrivateMounts::make);
        let located = find(globals, &target, prepare).map_err(failed)?;
        warn_engines(&located.warnings);
        let dry_run = self.dry_run;
        into(located, self.wishes(command), dry_run, mounts, None)?;
        Ok(ExitCode::SUCCESS)
    }

    fn wishes(self, command: Vec<OsString>) -> Wishes {
        Wishes {
            kinds_chosen: self.ns != [Kind::Net, Kind::Uts, Kind::Ipc],
            kinds: self.ns,
            dns: self.dns,
            user: self.user,
            env: self.env,
            workdir: self.workdir,
            command,
        }
    }
}

/// Enters the target and becomes the command; or shows how, and comes back.
pub(crate) fn into(
    located: Located,
    wishes: Wishes,
    only_shown: bool,
    mounts: Option<Result<PrivateMounts, NetnsError>>,
    tie: Option<Tie>,
) -> Result<(), Failure> {
    let name = located.name();
    let failed = |failure: Failure| failure.code(FAILED);
    let plan = plan(located, wishes).map_err(failed)?;
    if only_shown {
        return print(&dry_run(&name, &plan)).map_err(|e| failed(e.into()));
    }
    warn_all(&plan.warnings);
    let Err(error) = enter(plan.steps, mounts, tie, &mut |warning| warn_all(&[warning]));
    Err(status_of(error, &name))
}

/// The one target that was typed, ready to be entered. `meanwhile` is done while the engines think about it.
pub(crate) fn find(
    globals: &Globals,
    target: &TargetSpec,
    meanwhile: impl FnOnce(),
) -> Result<Located, Failure> {
    Ok(locate_meanwhile(&globals.query(&[]), target, meanwhile)?)
}

/// The failure with the status that a shell would give.
fn status_of(error: NetnsError, target: &str) -> Failure {
    let code = match &error {
        NetnsError::Exec { source, .. } if source.kind() == std::io::ErrorKind::NotFound => NOT_FOUND,
        NetnsError::Exec { .. } => NOT_EXECUTABLE,
        _ => FAILED,
    };
    let is_option =
        matches!(&error, NetnsError::Exec { command, .. } if command.as_bytes().starts_with(b"-"));
    let failure = Failure::from(error).code(code);
    if is_option {
        return failure
            .hint(format!("options stand before the target: snorkel exec OPTIONS {target} -- COMMAND"));
    }
    if code == NOT_FOUND {
        return failure.hint(format!("the command is looked for on the host, not in {target}"));
    }
    failure
}

fn dry_run(name: &str, plan: &Plan) -> String {
    let mut out = format!("into {}:\n", printable(name));
    for (number, step) in plan.steps.iter().enumerate() {
        out.push_str(&format!("  {}. {}\n", number + 1, printable(&step.to_string())));
    }
    for warning in &plan.warnings {
        out.push_str(&format!("  warning: {}\n", printable(warning)));
    }
    out.push_str(&format!(
        "the nearest nsenter line (names and /sys stay the host's, the PID is not checked):\n  {}\n",
        printable(&plan.nsenter)
    ));
    out
}

/// `TARGET [--] [CMD...]`.
fn split(words: &[OsString]) -> Result<(TargetSpec, Vec<OsString>), Failure> {
    let mut words = words.iter().cloned();
    let target = words.next().ok_or_else(|| Failure::new("a target is needed").hint("snorkel ls"))?;
    let mut command: Vec<OsString> = words.collect();
    if command.first().is_some_and(|word| word == "--") {
        command.remove(0);
    }
    Ok((spec(&target)?, command))
}

/// `TARGET... -- CMD...`; with labels `[TARGET... --] CMD...`.
fn split_each(words: &[OsString], labelled: bool) -> Result<(Vec<TargetSpec>, Vec<OsString>), Failure> {
    let (targets, command) = match words.iter().position(|word| word == "--") {
        Some(at) => (words[..at].to_vec(), words[at + 1..].to_vec()),
        None if labelled => (Vec::new(), words.to_vec()),
        None => (words.to_vec(), Vec::new()),
    };
    if command.is_empty() {
        return Err(Failure::new("--each needs a command").hint("snorkel exec --each web db -- ss -tln"));
    }
    if targets.is_empty() && !labelled {
        return Err(
            Failure::new("--each needs targets or --label").hint("snorkel exec --each web db -- ss -tln")
        );
    }
    Ok((targets.iter().map(spec).collect::<Result<_, _>>()?, command))
}

fn spec(word: &OsString) -> Result<TargetSpec, Failure> {
    let text = word.to_str().ok_or_else(|| {
        Failure::new(format!("the target {word:?} is not UTF-8, but every engine's names are"))
    })?;
    Ok(text.parse::<TargetSpec>()?)
}

fn dns(text: &str) -> Result<Dns, String> {
    match text {
        "container" => Ok(Dns::Container),
        "engine" => Ok(Dns::Engine),
        "host" => Ok(Dns::Host),
        servers => {
            let parse = |word: &str| {
                word.parse::<IpAddr>().map_err(|_| {
                    format!(
                        "'{word}' is neither `container`, `engine`, `host` nor the address of a name server"
                    )
                })
            };
            Ok(Dns::Servers(servers.split(',').map(parse).collect::<Result<_, _>>()?))
        }
    }
}

fn variable(text: OsString) -> Result<(OsString, Option<OsString>), String> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&b| b == b'=') {
        Some(0) => Err("a variable has a name: KEY=VALUE".to_owned()),
        Some(at) => {
            let (key, value) = (&bytes[..at], &bytes[at + 1..]);
            Ok((OsStr::from_bytes(key).to_owned(), Some(OsStr::from_bytes(value).to_owned())))
        }
        None if bytes.is_empty() => Err("a variable has a name: KEY=VALUE".to_owned()),
        // As `docker exec -e KEY` does: the value that the caller has, if there is one.
        None => Ok((text.clone(), std::env::var_os(&text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn only_the_first_double_dash_is_ours() {
        let (_, command) = split(&words("web -- sh -c x -- y")).unwrap();
        assert_eq!(command, words("sh -c x -- y"));
        let (_, command) = split(&words("web sh -- y")).unwrap();
        assert_eq!(command, words("sh -- y"));
    }

    #[test]
    fn each_takes_targets_up_to_the_double_dash() {
        let (targets, command) = split_each(&words("a b -- ls -- x"), false).unwrap();
        assert_eq!((targets.len(), command), (2, words("ls -- x")));
        assert_eq!(split_each(&words("ss -s"), true).unwrap().1, words("ss -s"));
        assert!(split_each(&words("a b"), false).is_err());
    }

    #[test]
    fn name_servers_are_addresses() {
        assert_eq!(dns("10.0.0.53,fd00::1").map(|d| matches!(d, Dns::Servers(s) if s.len() == 2)), Ok(true));
        assert!(dns("10.0.0.53,").is_err());
        assert!(dns("contaner").unwrap_err().contains("neither"));
    }
}
