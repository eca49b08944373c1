//! `snorkel apply`: a set of faults from a file, on a timeline.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use snorkel_fault::control::{self, Claim, OfFile};
use toml::{Table, Value};

use crate::cli::{Globals, duration, with_arrows};
use crate::commands::hold::{Ask, Hold, Part, is_holder};
use crate::commands::{block, cut, impair, partition, print};
use crate::failure::{Failure, Outcome};

/// Put a set of faults in force that a file describes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  snorkel apply bad-night.toml              holds all of it until Ctrl-C, or its end
  snorkel apply bad-night.toml --dry-run    what would be done, and when
  snorkel apply bad-night.toml --detach
  snorkel apply bad-night.toml -- ./integration-tests

bad-night.toml:
  [fault.slow-db]
  kind = \"impair\"
  targets = [\"db\"]
  delay = \"100ms\"
  with = [\"web\"]

  [fault.outage]
  kind = \"cut\"
  targets = [\"cache\"]
  start = \"10s\"
  end = \"40s\"

  [fault.split]
  kind = \"partition\"
  groups = [\"a,b\", \"c\"]

The words are those of the commands' options. `start` and `end` count from the beginning. Applying a file that is in
force changes nothing.")]
pub(crate) struct Apply {
    /// A TOML file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    hold: Hold,
}

/// The commands that a file can have, as clap reads them.
#[derive(Debug, Parser)]
#[command(name = "snorkel", no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    command: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    Cut(cut::Cut),
    Block(block::Block),
    Partition(partition::Partition),
    Impair(Box<impair::Impair>),
}

/// Those of a fault's words that are a matter of the whole file.
const NOT_HERE: [&str; 5] = ["for", "detach", "dry-run", "json", "cmd"];

impl Apply {
    /// Applies, holds, heals.
    pub(crate) fn run(self, globals: &Globals) -> Outcome {
        let path = std::fs::canonicalize(&self.file)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", self.file.display())))?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display())))?;
        let path = path.display().to_string();
        let parts = parts(&text, &path).map_err(|why| Failure::new(format!("{path}: {why}")))?;
        if self.hold.dry_run || (self.hold.detach && !is_holder()) {
            if !self.hold.dry_run && self.is_in_force(&path, &text)? {
                return Ok(ExitCode::SUCCESS);
            }
            return self.hold.run_all(globals, &parts);
        }
        if self.is_in_force(&path, &text)? {
            return Ok(ExitCode::SUCCESS);
        }
        // Also between its faults nobody applies it a second time.
        let Some(_once) = Claim::once(&format!("apply {path}"))? else {
            return Err(Failure::new(format!("{path} is being applied already")).hint("snorkel faults"));
        };
        self.hold.run_all(globals, &parts)
    }

    /// Whether this very file is in force; an error if an older state of it is.
    fn is_in_force(&self, path: &str, text: &str) -> Result<bool, Failure> {
        let (all, _) = control::list()?;
        let of_file: Vec<_> = all
            .iter()
            .filter_map(|status| Some((status, status.file.as_ref().filter(|file| file.path == path)?)))
            .collect();
        if of_file.is_empty() {
            return Ok(false);
        }
        let ids = of_file.iter().map(|(status, _)| status.id.to_string()).collect::<Vec<_>>().join(" ");
        if of_file.iter().any(|(_, file)| file.digest != control::digest(text.as_bytes())) {
            return Err(Failure::new(format!("{path} has changed since it was applied ({ids})"))
                .hint(format!("snorkel heal {ids}")));
        }
        print(&format!("{path} is in force already: {ids}\n"))?;
        Ok(true)
    }
}

/// The faults of a file, in the order in which they begin.
fn parts(text: &str, path: &str) -> Result<Vec<Part>, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if let Some(other) = table.keys().find(|key| *key != "fault") {
        return Err(format!("'{other}' is unknown; faults are written as [fault.NAME]"));
    }
    let Some(Value::Table(faults)) = table.get("fault") else {
        return Err("there is no fault in it; faults are written as [fault.NAME]".to_owned());
    };
    let digest = control::digest(text.as_bytes());
    let mut parts = Vec::new();
    for (name, fault) in faults {
        let Value::Table(fault) = fault else { return Err(format!("fault.{name} is no table")) };
        let file = OfFile { path: path.to_owned(), digest: digest.clone(), name: name.clone() };
        parts.push(part(fault, file).map_err(|why| format!("[fault.{name}]: {why}"))?);
    }
    parts.sort_by_key(|part| part.start);
    Ok(parts)
}

fn part(fault: &Table, file: OfFile) -> Result<Part, String> {
    let time = |key: &str| match fault.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if text == "0" || text == "0s" => Ok(Some(Duration::ZERO)),
        Some(Value::String(text)) => duration(text).map(Some).map_err(|why| format!("{key}: {why}")),
        Some(_) => Err(format!("{key} is a time in quotation marks: \"10s\"")),
    };
    let start = time("start")?.unwrap_or_default();
    let lasting = match time("end")? {
        Some(end) if end <= start => return Err("it ends before it begins".to_owned()),
        end => end.map(|end| end - start),
    };
    let words = words(fault)?;
    let typed: Vec<OsString> = words.iter().map(OsString::from).collect();
    let line = Line::try_parse_from(with_arrows(&typed)).map_err(|error| {
        let text = error.render().to_string();
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("error: ").unwrap_or(first).to_owned()
    })?;
    let ask: Box<dyn Ask> = match line.command {
        Kind::Cut(command) => Box::new(command),
        Kind::Block(command) => Box::new(command),
        Kind::Partition(command) => Box::new(command),
        Kind::Impair(command) => command,
    };
    Ok(Part { ask, words, file: Some(file), start, lasting })
}

/// A fault's table as the words of a command line.
fn words(fault: &Table) -> Result<Vec<String>, String> {
    let Some(Value::String(kind)) = fault.get("kind") else {
        return Err("kind is missing: cut, block, partition or impair".to_owned());
    };
    let mut words = vec![kind.clone()];
    let mut plain = Vec::new();
    for (key, value) in fault {
        match key.as_str() {
            "kind" | "start" | "end" => {}
            "target" | "targets" | "groups" => plain.extend(texts(key, value)?),
            key if NOT_HERE.contains(&key) => {
                return Err(format!("{key} is for the whole file: snorkel apply --{key}"));
            }
            key => match value {
                Value::Boolean(true) => words.push(format!("--{key}")),
                Value::Boolean(false) => {}
                // Together, so that a value with a hyphen is none of the options.
                value => words.extend(texts(key, value)?.iter().map(|text| format!("--{key}={text}"))),
            },
        }
    }
    words.extend(plain);
    Ok(words)
}

/// A text, a number, or a list of them.
fn texts(key: &str, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(number) => Ok(vec![number.to_string()]),
        Value::Float(number) => Ok(vec![number.to_string()]),
        Value::Array(values) => {
            let all = values.iter().map(|value| texts(key, value)).collect::<Result<Vec<_>, _>>()?;
            Ok(all.concat())
        }
        other => Err(format!("{key} cannot be a {}", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Part>, String> {
        parts(text, "/x.toml")
    }

    #[test]
    fn a_file_has_the_words_of_the_commands() {
        let parts = read(
            r#"
            [fault.slow]
            kind = "impair"
            targets = ["db", "web"]
            delay = "100ms"
            with = ["cache:6379", "10.0.0.0/8"]
            seed = 7
            start = "10s"
            end = "40s"
            [fault.gone]
            kind = "cut"
            target = "cache"
            all = true
            [fault.split]
            kind = "partition"
            groups = ["a,b", "->", "c"]
            "#,
        )
        .unwrap();
        let lines: Vec<String> = parts.iter().map(|part| part.words.join(" ")).collect();
        assert_eq!(
            lines,
            [
                "cut --all cache",
                "partition a,b -> c",
                "impair --delay=100ms --seed=7 --with=cache:6379 --with=10.0.0.0/8 db web"
            ]
        );
        assert_eq!(parts[2].start, Duration::from_secs(10));
        assert_eq!(parts[2].lasting, Some(Duration::from_secs(30)));
    }

    #[test]
    fn a_mistake_is_named_with_its_fault() {
        for (text, word) in [
            ("", "no fault"),
            ("[faults.x]\nkind = \"cut\"", "'faults' is unknown"),
            ("[fault.x]\ntarget = \"web\"", "[fault.x]: kind is missing"),
            ("[fault.x]\nkind = \"cut\"\ntarget = \"web\"\nloss = \"5%\"", "--loss"),
            ("[fault.x]\nkind = \"cut\"\ntarget = \"web\"\nfor = \"5s\"", "whole file"),
            ("[fault.x]\nkind = \"cut\"\ntarget = \"web\"\nstart = \"5s\"\nend = \"2s\"", "before it begins"),
            ("[fault.x]\nkind = \"lab\"", "lab"),
            ("[fault.x", "TOML"),
        ] {
            let why = read(text).err().unwrap_or_default();
            assert!(why.contains(word), "{text:?}: {why}");
        }
    }
}
