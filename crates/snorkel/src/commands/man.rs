//! `snorkel man`: the manual page, made of the same definitions as `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use snorkel_netns::Error as NetnsError;

use crate::cli::Cli;
use crate::commands::print;
use crate::failure::Outcome;

/// Print the manual page, or write one for each command into a folder
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel man | man -l -
  snorkel man --dir /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Write snorkel.1, snorkel-exec.1 and so on into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    /// Renders the pages.
    pub(crate) fn run(self) -> Outcome {
        match self.dir {
            Some(dir) => clap_mangen::generate_to(Cli::command(), &dir)
                .map_err(|e| NetnsError::os(format!("write manual pages into {}", dir.display()), e))?,
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page)?;
                print(&String::from_utf8_lossy(&page))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
