//! A machine to try things on by hand, and what the testbed's own tests kill to see what stays.
//!
//! ```text
//! testbed [docker] [podman] [containerd] [cri] [lxc] [lxd] [nspawn] [rootless] [-- COMMAND ARGUMENT...]
//! ```
//!
//! Makes a machine, starts the engines that are named with one container in each, runs the command in the machine (a
//! shell if there is none), and takes everything away when it ends. The command finds these in its environment:
//! `TESTBED_PID`, whose namespaces are the machine's, and `TESTBED_DIRECTORY`.

use std::process::ExitCode;

use snorkel_testbed::{Image, Machine};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut halves = arguments.splitn(2, |a| a == "--");
    let engines = halves.next().unwrap_or_default();
    let shell = [std::env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into())];
    let command = halves.next().unwrap_or(&shell);

    let machine = Machine::new();
    for engine in engines {
        match engine.as_str() {
            "docker" => {
                let docker = machine.docker();
                docker.network_create("front", &[]);
                docker.run("web", &["--network", "front"], Image::Busybox, &["httpd", "-f", "-h", "/www"]);
            }
            "podman" => {
                machine.podman().run("cache", &[], Image::Bare, &["/echo", "7"]);
            }
            "containerd" => {
                machine.containerd().run_as_pod("db-0", "default", "db-0-main", Image::Busybox, &[]);
            }
            "lxc" => {
                machine.lxc().run("box", "10.0.3.2", Image::Bare, "/echo 7");
            }
            "cri" => {
                let pod = machine.cri().run_pod("default", "api-0", false);
                machine.cri().run(&pod, "app", Image::Busybox, &["sleep", "2147483647"]);
            }
            "lxd" => {
                machine.lxd().run("crate", &["--config", "security.privileged=true"], Image::Busybox);
            }
            "nspawn" => {
                machine.nspawn().run("barge", true, Image::Bare, &["/echo", "7"]);
            }
            "rootless" => {
                let alice = machine.user("alice");
                alice.podman().run("raft", &[], Image::Bare, &["/echo", "7"]);
                alice.docker().run("dinghy", &[], Image::Bare, &["/echo", "7"]);
            }
            other => {
                eprintln!("testbed: there is no engine {other} here");
                return ExitCode::from(2);
            }
        }
    }
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("testbed: a command has to follow --");
        return ExitCode::from(2);
    };
    let ended = machine
        .command(program)
        .args(arguments)
        .env("TESTBED_PID", machine.pid().to_string())
        .env("TESTBED_DIRECTORY", machine.directory())
        .status();
    match ended {
        Ok(status) => ExitCode::from(status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(125)),
        Err(e) => {
            eprintln!("testbed: cannot start {program}: {e}");
            ExitCode::from(127)
        }
    }
}
