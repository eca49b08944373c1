//! `snorkel lab tour`: the whole job once, on a lab; each step is the very command that it prints.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use snorkel_engines::{Endpoints, Engine, Query};
use snorkel_netns::NetnsId;
use snorkel_netns::enter::shell_word;
use snorkel_topology::{Survey, Surveyor};

use crate::cli::Globals;
use crate::commands::print;
use crate::failure::{Failure, Outcome};
use crate::render::style::{Style, Tone};

/// What a lab could change on the host. Other things come and go there while the tour lasts: what is not the lab's, or
/// the doing of the commands of the tour, is none of its business.
#[derive(Debug, Clone, Default)]
struct Host {
    /// Every network namespace that can be found.
    namespaces: BTreeSet<NetnsId>,
    /// The names of the host's links.
    links: BTreeSet<String>,
    /// The mounts at and below /etc and /sys, where `exec` covers things, as /proc/self/mountinfo has them.
    mounts: BTreeSet<String>,
    resolv_conf: Option<Vec<u8>>,
}

/// What the lab was made of.
#[derive(Debug, Default)]
struct Made {
    namespaces: BTreeSet<NetnsId>,
    links: BTreeSet<String>,
}

/// Goes through the steps; the lab is taken down also if one fails.
pub(crate) fn run(globals: &Globals) -> Outcome {
    if snorkel_lab::find("lab").is_ok() {
        return Err(Failure::new("the tour makes a lab of the name `lab`, and one is up already")
            .hint("snorkel lab down"));
    }
    let tour = Tour { style: globals.style(), program: program() };
    let before = Host::now()?;
    let result = tour.steps();
    if result.is_err() {
        // What is wrong is the step's error; the lab may be up or not.
        // With the lab go the faults in it.
        let _ = snorkel_lab::down("lab");
        let _ = std::fs::remove_file(tour.file());
    }
    let made = result?;
    let left = left_behind(&before, &made, &Host::now()?);
    if !left.is_empty() {
        return Err(Failure::new(format!("something was left behind: {}", left.join("; "))));
    }
    tour.say(&format!(
        "Nothing is left: the lab's {} network namespaces are gone, none of its links or mounts is on the host, and \
         /etc/resolv.conf is as it was.",
        made.namespaces.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

struct Tour {
    style: Style,
    /// How this program was called, so that the printed lines can be typed again.
    program: String,
}

impl Tour {
    /// Takes all steps; what the lab was made of.
    fn steps(&self) -> Result<Made, Failure> {
        self.say(
            "Three containers without a shell or any tool in them, on a bridge with a DNS server of its own:",
        )?;
        self.step(&["lab", "up"])?;
        let made = Made::now()?;
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
        self.say("So its neighbours answer by name. Meanwhile web's packets are captured, from outside:")?;
        let words = ["capture", "lab:web", "-w", &self.file(), "--", "port 80"];
        let capture = self.background(&words, "capturing on")?;
        self.fetch()?;
        self.interrupt(capture)?;
        self.say("Read back: the conversation, and the request byte for byte:")?;
        self.step(&["read", &self.file()])?;
        self.step(&["read", &self.file(), "-X", "-c", "1", "--", "dst port 80 and greater 110"])?;
        print(&format!("{} rm {}\n", self.style.paint(Tone::Faint, "$"), self.file()))?;
        std::fs::remove_file(self.file())?;
        self.say("What would be done, step by step, and the line it replaces:")?;
        self.step(&["exec", "--dry-run", "lab:db", "--", "ss", "-tln"])?;
        self.say("In front of web's port, with nobody told and nothing restarted, for as long as the process lives:")?;
        let tap = self.background(&["tap", "lab:web:80", "-v"], "tapping")?;
        self.fetch()?;
        self.interrupt(tap)?;
        if on_path("ping") {
            self.faults()?;
        }
        self.say("And away with it:")?;
        self.step(&["lab", "down"])?;
        self.step(&["lab", "ls"])?;
        Ok(made)
    }

    /// The client fetches web's page.
    fn fetch(&self) -> Result<(), Failure> {
        if on_path("curl") {
            return self.step(&["exec", "lab:client", "--", "curl", "-sS", "http://web/"]);
        }
        let talk = "exec 3<>/dev/tcp/web/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
        self.step(&["exec", "lab:client", "--", "bash", "-c", talk])
    }

    /// Off the network and back, then a slow one.
    fn faults(&self) -> Result<(), Failure> {
        let ping = |count| ["exec", "lab:client", "--", "ping", "-q", "-c", count, "-W", "1", "198.19.0.2"];
        self.say("Its cable pulled out, from outside, and put back:")?;
        self.step(&["cut", "lab:client", "--detach"])?;
        self.fails(&ping("1"))?;
        self.step(&["heal", "lab:client"])?;
        // Who asked for an address in vain asks again a second later (arp(7)): the first may still be lost.
        self.step(&ping("3"))?;
        self.say("What it sends is 100 ms late, until that is healed; were its process killed, the kernel would do it:")?;
        self.step(&["impair", "lab:client", "--delay", "100ms", "--detach"])?;
        self.step(&ping("3"))?;
        self.step(&["faults", "--only-own"])?;
        self.step(&["heal", "lab:client"])
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        Ok(print(&format!("\n{}\n", self.style.paint(Tone::Heading, text)))?)
    }

    /// Where the tour's capture goes.
    fn file(&self) -> String {
        let name = format!("snorkel-tour-{}.pcapng", std::process::id());
        std::env::temp_dir().join(name).display().to_string()
    }

    /// Prints the command with an `&` behind it, and runs it; comes back when it says that it is `ready`.
    fn background(&self, words: &[&str], ready: &str) -> Result<Child, Failure> {
        let line = self.line(words);
        print(&format!("{} {line} &\n", self.style.paint(Tone::Faint, "$")))?;
        let mut child = Command::new(std::env::current_exe()?).args(words).stderr(Stdio::piped()).spawn()?;
        let mut said =
            BufReader::new(child.stderr.take().ok_or_else(|| Failure::new("stderr was asked for"))?);
        let mut line = String::new();
        while !line.contains(ready) {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                return Err(Failure::new(format!("`{}` failed ({})", self.line(words), child.wait()?)));
            }
            print(&line)?;
        }
        child.stderr = Some(said.into_inner());
        Ok(child)
    }

    /// What Ctrl-C does to a command in the background, and the account that it gives then.
    fn interrupt(&self, mut child: Child) -> Result<(), Failure> {
        print(&format!("{} kill -INT %1\n", self.style.paint(Tone::Faint, "$")))?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let mut said = String::new();
        if let Some(stderr) = &mut child.stderr {
            stderr.read_to_string(&mut said)?;
        }
        print(&said)?;
        let status = child.wait()?;
        if !status.success() {
            return Err(Failure::new(format!("what ran in the background failed ({status})")));
        }
        Ok(())
    }

    fn line(&self, words: &[&str]) -> String {
        let line: Vec<String> = words.iter().map(|word| shell_word(word)).collect();
        format!("{} {}", self.program, line.join(" "))
    }

    /// Prints the command and runs it.
    fn step(&self, words: &[&str]) -> Result<(), Failure> {
        let status = self.run(words)?;
        if status.success() { Ok(()) } else { Err(self.unlike(words, "failed", status)) }
    }

    /// Prints a command that is to fail, and runs it.
    fn fails(&self, words: &[&str]) -> Result<(), Failure> {
        let status = self.run(words)?;
        if status.success() { Err(self.unlike(words, "should have failed", status)) } else { Ok(()) }
    }

    fn run(&self, words: &[&str]) -> Result<ExitStatus, Failure> {
        print(&format!("{} {}\n", self.style.paint(Tone::Faint, "$"), self.line(words)))?;
        Ok(Command::new(std::env::current_exe()?).args(words).status()?)
    }

    fn unlike(&self, words: &[&str], what: &str, status: ExitStatus) -> Failure {
        Failure::new(format!("`{}` {what} ({status})", self.line(words)))
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

impl Made {
    /// The lab of the tour as it is while it is up.
    fn now() -> Result<Made, Failure> {
        let query = Query { engines: Some(vec![Engine::Lab]), ..Query::default() };
        let mut snapshot = Surveyor::new(Survey { query, listeners: false }).take()?;
        snapshot.narrow(|target| target.container.engine == Engine::Lab && target.container.scope.is_none());
        let links = snapshot.namespaces.iter().flat_map(|namespace| &namespace.links);
        Ok(Made {
            links: links.map(|link| link.name.clone()).collect(),
            namespaces: snapshot.namespaces.iter().map(|namespace| namespace.id).collect(),
        })
    }
}

impl Host {
    /// As it is now.
    fn now() -> Result<Host, Failure> {
        let query = Query { endpoints: Endpoints::none(), ..Query::default() };
        let snapshot = Surveyor::new(Survey { query, listeners: false }).take()?;
        let own = snapshot.namespaces.iter().filter(|namespace| namespace.host);
        Ok(Host {
            links: own.flat_map(|namespace| namespace.links.iter().map(|link| link.name.clone())).collect(),
            namespaces: snapshot.namespaces.iter().map(|namespace| namespace.id).collect(),
            mounts: mounts_of_exec(&String::from_utf8_lossy(&std::fs::read("/proc/self/mountinfo")?)),
            resolv_conf: std::fs::read("/etc/resolv.conf").ok(),
        })
    }
}

/// The lines of a mount table (proc_pid_mountinfo(5)) whose mount point, the fifth word, is /etc or /sys or below.
fn mounts_of_exec(table: &str) -> BTreeSet<String> {
    let is_meant = |line: &&str| {
        let point = line.split(' ').nth(4).unwrap_or_default();
        ["/etc", "/sys"].iter().any(|top| Path::new(point).starts_with(top))
    };
    table.lines().filter(is_meant).map(str::to_owned).collect()
}

/// What is on the host now that was not before and is the lab's, a line each.
fn left_behind(before: &Host, made: &Made, after: &Host) -> Vec<String> {
    let mut left = Vec::new();
    let namespaces = made.namespaces.intersection(&after.namespaces);
    left.extend(namespaces.map(|id| format!("the network namespace {id}")));
    let links = after.links.difference(&before.links).filter(|name| made.links.contains(*name));
    left.extend(links.map(|name| format!("the link {name}")));
    left.extend(after.mounts.difference(&before.mounts).map(|line| format!("the mount {line}")));
    if before.resolv_conf != after.resolv_conf {
        left.push("/etc/resolv.conf, which is not as it was".to_owned());
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn id(inode: u64) -> NetnsId {
        NetnsId { inode, cookie: inode + 100 }
    }

    #[test]
    fn only_what_is_the_labs_counts_as_left_behind() {
        let made = Made { namespaces: [id(2), id(3)].into(), links: set(&["lo", "eth0", "vethweb"]) };
        let before = Host {
            namespaces: [id(1)].into(),
            links: set(&["lo", "eth0"]),
            mounts: set(&["the mount table's line of /sys"]),
            resolv_conf: Some(b"nameserver 192.0.2.1".into()),
        };
        // Another container came meanwhile, one of them even with the number of a namespace of the lab.
        let reused = NetnsId { inode: 2, cookie: 7 };
        let mut after = before.clone();
        after.namespaces.extend([id(9), reused]);
        after.links.insert("veth2e7d114".into());
        assert_eq!(left_behind(&before, &made, &after), Vec::<String>::new());

        after.namespaces.insert(id(3));
        after.links.insert("vethweb".into());
        after.mounts.insert("a line of /etc".into());
        after.resolv_conf = None;
        assert_eq!(
            left_behind(&before, &made, &after),
            [
                "the network namespace net:[3]",
                "the link vethweb",
                "the mount a line of /etc",
                "/etc/resolv.conf, which is not as it was"
            ]
        );
    }

    #[test]
    fn the_mounts_that_count_are_those_where_exec_covers_something() {
        let table = "22 27 0:21 / /sys rw shared:7 - sysfs sysfs rw\n\
                     30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                     41 27 0:41 / /etc/resolv.conf rw - tmpfs tmpfs rw\n\
                     50 27 0:50 / /etcetera rw - tmpfs tmpfs rw\n\
                     51 27 0:51 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw\n\nhalf a line";
        let kept: Vec<String> = mounts_of_exec(table).into_iter().collect();
        let points: Vec<&str> = kept.iter().filter_map(|line| line.split(' ').nth(4)).collect();
        assert_eq!(points, ["/sys", "/sys/fs/cgroup", "/etc/resolv.conf"]);
    }
}
