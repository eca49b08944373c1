//! A machine to try things on: `cargo run -p snorkel-testbed --example machine [CMD...]` starts Docker, Podman and
//! containerd with a container each and runs the command (a shell if none is given) in it; all is gone afterwards.

use std::process::ExitCode;

use snorkel_testbed::{Image, Machine};

fn main() -> ExitCode {
    let machine = Machine::shared();
    machine.docker().run("web", &["-p", "127.0.0.1:8080:80"], Image::Busybox, &[]);
    machine.docker().run("bare", &[], Image::Bare, &["/echo", "7"]);
    machine.podman().run("db", &[], Image::Busybox, &[]);
    machine.containerd().run_as_pod("web-0", "shop", "sandbox", Image::Busybox, &[]);
    let mut words: Vec<_> = std::env::args_os().skip(1).collect();
    if words.is_empty() {
        words.push("bash".into());
    }
    let mut command = machine.command(&words[0]);
    match command.args(&words[1..]).status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(e) => {
            eprintln!("cannot run {words:?}: {e}");
            ExitCode::from(127)
        }
    }
}
