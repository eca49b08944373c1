//! `snorkel lab tour`: the whole job once, on a lab; each step is the very command that it prints.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};

use snorkel_engines::{Endpoints, Query};
use snorkel_netns::enter::shell_word;
use snorkel_topology::{Survey, Surveyor};

use crate::cli::Globals;
use crate::commands::print;
use crate::failure::{Failure, Outcome};
use crate::render::style::{Style, Tone};

/// What must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    namespaces: BTreeSet<u64>,
    links: Vec<String>,
    mounts: Vec<u8>,
    resolv_conf: Option<Vec<u8>>,
}

/// Goes through the steps; the lab is taken down also if one fails.
pub(crate) fn run(globals: &Globals) -> Outcome {
    if snorkel_lab::find("lab").is_ok() {
        return Err(Failure::new("the tour makes a lab of the name `lab`, and one is up already")
            .hint("snorkel lab down"));
    }
    let tour = Tour { style: globals.style(), program: program() };
    let before = traces()?;
    let result = tour.steps();
    if result.is_err() {
        // What is wrong is the step's error; the lab may be up or not.
        let _ = snorkel_lab::down("lab");
    }
    result?;
    let after = traces()?;
    if before != after {
        return Err(Failure::new(format!("something was left behind: {before:?} before, {after:?} after")));
    }
    tour.say(&format!(
        "Nothing is left: as many network namespaces as before ({}); the host's links, mounts and /etc/resolv.conf are \
         as they were.",
        after.namespaces.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

struct Tour {
    style: Style,
    /// How this program was called, so that the printed lines can be typed again.
    program: String,
}

impl Tour {
    fn steps(&self) -> Result<(), Failure> {
        self.say(
            "Three containers without a shell or any tool in them, on a bridge with a DNS server of its own:",
        )?;
        self.step(&["lab", "up"])?;
        self.say("Who is there, and where is each plugged in?")?;
        self.step(&["ls", "--engine", "lab"])?;
        self.say("The other way round: whose is that link on the bridge? Whose is that address?")?;
        self.step(&["which", "vethweb", "198.19.0.3"])?;
        self.say("The host's tools, in the network of a container that has none. Its links:")?;
        self.step(&["exec", "lab:client", "--", "ls", "/sys/class/net"])?;
        if on_path("ip") {
            self.step(&["exec", "lab:client", "--", "ip", "-brief", "address"])?;
        }
        self.say("Names resolve as in the container. The host has never heard of `web`:")?;
        self.step(&["exec", "lab:client", "--", "getent", "hosts", "web"])?;
        self.say("So its neighbours answer by name:")?;
        if on_path("curl") {
            self.step(&["exec", "lab:client", "--", "curl", "-sS", "http://web/"])?;
        } else {
            let talk = "exec 3<>/dev/tcp/web/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
            self.step(&["exec", "lab:client", "--", "bash", "-c", talk])?;
        }
        self.say("What would be done, step by step, and the line it replaces:")?;
        self.step(&["exec", "--dry-run", "lab:db", "--", "ss", "-tln"])?;
        self.say("And away with it:")?;
        self.step(&["lab", "down"])?;
        self.step(&["lab", "ls"])
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        Ok(print(&format!("\n{}\n", self.style.paint(Tone::Heading, text)))?)
    }

    /// Prints the command and runs it.
    fn step(&self, words: &[&str]) -> Result<(), Failure> {
        let line: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
        let line = format!("{} {}", self.program, line.join(" "));
        print(&format!("{} {line}\n", self.style.paint(Tone::Faint, "$")))?;
        let status = Command::new(std::env::current_exe()?).args(words).status()?;
        if !status.success() {
            return Err(Failure::new(format!("`{line}` failed ({status})")));
        }
        Ok(())
    }
}

fn program() -> String {
    let called = std::env::args().next().unwrap_or_else(|| "snorkel".to_owned());
    if std::env::var_os("SUDO_UID").is_some() { format!("sudo {called}") } else { called }
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(tool).is_file())
}

/// What a lab could leave behind on the host.
fn traces() -> Result<Traces, Failure> {
    let query = Query { endpoints: Endpoints::none(), ..Query::default() };
    let snapshot = Surveyor::new(Survey { query, listeners: false }).take()?;
    let own = snapshot.namespaces.iter().filter(|namespace| namespace.host);
    Ok(Traces {
        links: own.flat_map(|namespace| namespace.links.iter().map(|link| link.name.clone())).collect(),
        namespaces: snapshot.namespaces.iter().map(|namespace| namespace.id.inode).collect(),
        mounts: std::fs::read("/proc/self/mountinfo")?,
        resolv_conf: std::fs::read(Path::new("/etc/resolv.conf")).ok(),
    })
}
