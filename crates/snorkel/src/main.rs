//! The command line of snorkel: what the user typed becomes a plan, the plan is run, and the result is rendered.
//!
//! Each command is one file of `commands/`: its arguments, the plan made of them, the run. What is printed is made in
//! `render/`, from the same values that `--json` prints.

mod cli;
mod commands;
mod doctor;
mod entry;
mod failure;
mod log;
mod render;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The lab's holder and the shell's completion come in through the same door, before anything is parsed or set up.
    commands::lab::serve_if_holder();
    commands::completions::answer_if_asked();
    let words: Vec<_> = std::env::args_os().collect();
    let cli = match cli::Cli::read(&words) {
        Ok(cli) => cli,
        Err(wrong) => return cli::usage(&wrong, &words),
    };
    cli.globals.start_log();
    match cli.run() {
        Ok(code) => code,
        Err(failure) => failure.print(),
    }
}
