//! How packets look as lines: the options that `capture` and `read` have in common.

use clap::{Args, ValueEnum};
use snorkel_capture::dissect::{Hex, Style, TimeFormat, Zone};

/// Options for lines.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Lines")]
pub(crate) struct Look {
    /// Also each packet in hex
    #[arg(short = 'x')]
    hex: bool,
    /// Also each packet in hex and ASCII
    #[arg(short = 'X')]
    ascii: bool,
    /// Also hardware addresses
    #[arg(short = 'e')]
    ethernet: bool,
    /// Also all fields of IP and all TCP options
    #[arg(long)]
    detail: bool,
    /// Numbers instead of names
    #[arg(short, long)]
    pub(crate) numeric: bool,
    /// TCP's sequence numbers as they are on the wire
    #[arg(short = 'S', long)]
    pub(crate) absolute: bool,
    /// How the time is written
    #[arg(long = "time", value_enum, value_name = "clock|date|epoch|none", default_value = "clock")]
    time: Time,
    /// Universal time
    #[arg(long)]
    utc: bool,
    /// Times with nanoseconds
    #[arg(long)]
    nano: bool,
    /// One JSON object for each packet (docs/json.md)
    #[arg(long, conflicts_with_all = ["hex", "ascii"])]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Time {
    /// 12:03:04.123456
    Clock,
    /// 2026-11-24 12:03:04.123456
    Date,
    /// Seconds since 1970
    Epoch,
    /// Not at all
    None,
}

impl Look {
    /// The style of lines that was asked for.
    pub(crate) fn style(&self) -> Style {
        Style {
            time: match self.time {
                Time::Clock => TimeFormat::Clock,
                Time::Date => TimeFormat::Date,
                Time::Epoch => TimeFormat::Epoch,
                Time::None => TimeFormat::None,
            },
            zone: if self.utc { Zone::Utc } else { Zone::Local },
            nanoseconds: self.nano,
            link_header: self.ethernet,
            verbose: self.detail,
            hex: match (self.hex, self.ascii) {
                (_, true) => Hex::Ascii,
                (true, false) => Hex::Plain,
                (false, false) => Hex::None,
            },
            ..Style::default()
        }
    }
}
