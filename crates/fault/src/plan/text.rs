//! A plan in words.

use std::time::Duration;

use super::{Action, Effect, Plan, Point, Wire};
use crate::rule::{Direction, Network, Protocol, Rule, Verdict};
use crate::{Distribution, Impairment, Likely, Loss};

/// More peers than these are counted.
const FEW: usize = 6;

impl Plan {
    /// What is to be done, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for step in &self.steps {
            match &step.action {
                Action::Carrier { flap } => {
                    let turns = flap.map(|flap| format!(", in turns: {flap}")).unwrap_or_default();
                    lines.push(format!("{}: set {} down{turns}", step.point, far(&step.point)));
                }
                Action::Gate { rules, wires, flap } => {
                    let turns = flap.map(|flap| format!(", in turns: {flap}")).unwrap_or_default();
                    lines.push(format!("{}: judge packets at {}{turns}", step.point, far(&step.point)));
                    lines.extend(rules.iter().map(|rule| format!("  {}", rule_words(rule, wires))));
                }
            }
        }
        lines
    }
}

/// `docker:web/eth0`; with all that it belongs to.
impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.targets.join("+"), self.link)
    }
}

fn far(point: &Point) -> String {
    let place = &point.place;
    match (place.inside, place.of.as_str()) {
        (true, _) => format!("{} itself, inside, since it has no other end", place.name),
        (false, "host") => format!("{}, its end on the host", place.name),
        (false, of) => format!("{}, its end in {of}", place.name),
    }
}

fn rule_words(rule: &Rule, wires: &[Wire]) -> String {
    let mut words = match rule.direction {
        Direction::Out => "what it sends".to_owned(),
        Direction::In => "what it gets".to_owned(),
    };
    if let Some(protocol) = rule.protocol {
        words.push_str(match protocol {
            Protocol::Tcp => " by TCP",
            Protocol::Udp => " by UDP",
            Protocol::Icmp => " by ICMP",
        });
    }
    if let Some(own) = rule.ports.own {
        words.push_str(match rule.direction {
            Direction::Out => " from its port ",
            Direction::In => " at its port ",
        });
        words.push_str(&own.to_string());
    }
    if !rule.peers.is_empty() || rule.ports.peer.is_some() {
        words.push_str(match rule.direction {
            Direction::Out => " to ",
            Direction::In => " from ",
        });
        words.push_str(&peers(&rule.peers));
        if let Some(port) = rule.ports.peer {
            words.push_str(&format!(", port {port}"));
        }
    }
    if rule.opening {
        words.push_str(", if it opens a connection");
    }
    words.push_str(": ");
    words.push_str(&match rule.verdict {
        Verdict::Pass => "spare it".to_owned(),
        Verdict::Drop => "drop it".to_owned(),
        Verdict::Wire(number) => match wires.get(usize::from(number.0)).map(|wire| &wire.effect) {
            Some(Effect::Impair(impairment)) => impairment.words(),
            Some(Effect::Reject) => "reject it".to_owned(),
            None => "lead it nowhere".to_owned(),
        },
    });
    words
}

fn peers(peers: &[Network]) -> String {
    match peers {
        [] => "anybody".to_owned(),
        few if few.len() <= FEW => few.iter().map(network).collect::<Vec<_>>().join(", "),
        many => format!("{} addresses", many.len()),
    }
}

/// An address alone without its bits.
fn network(network: &Network) -> String {
    if network.prefix == Network::bits(network.address) {
        network.address.to_string()
    } else {
        network.to_string()
    }
}

impl Impairment {
    /// What it does, in words: `delay 100ms ± 20ms (normal), lose 5%`.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if !self.delay.is_zero() || !self.jitter.is_zero() {
            let mut delay = format!("delay {}", time(self.delay));
            if !self.jitter.is_zero() {
                delay.push_str(&format!(" ± {} ({})", time(self.jitter), self.distribution.word()));
            }
            words.push(delay);
        }
        match &self.loss {
            Some(Loss::Random(likely)) => words.push(format!("lose {}", percent(likely))),
            Some(Loss::Gemodel { .. }) => words.push("lose in bursts (gemodel)".to_owned()),
            None => {}
        }
        if !self.duplicate.chance.is_never() {
            words.push(format!("duplicate {}", percent(&self.duplicate)));
        }
        if let Some(reorder) = &self.reorder {
            words.push(format!("reorder {}", percent(&reorder.likely)));
        }
        if !self.corrupt.chance.is_never() {
            words.push(format!("corrupt {}", percent(&self.corrupt)));
        }
        if let Some(rate) = self.rate {
            words.push(format!("at most {}", bits(rate)));
        }
        if let Some(limit) = self.limit {
            words.push(format!("at most {limit} packets wait"));
        }
        if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
    }
}

impl Distribution {
    /// As it is typed.
    pub fn word(&self) -> &'static str {
        match self {
            Distribution::Uniform => "uniform",
            Distribution::Normal => "normal",
            Distribution::Pareto => "pareto",
            Distribution::ParetoNormal => "paretonormal",
            Distribution::Table(_) => "by a table",
        }
    }
}

fn percent(likely: &Likely) -> String {
    format!("{}%", trimmed(likely.chance.get() * 100.0, 4))
}

/// `1.5s`, `100ms`, `250µs`.
fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        m if m >= 1e6 => format!("{}s", trimmed(m / 1e6, 3)),
        m if m >= 1e3 => format!("{}ms", trimmed(m / 1e3, 3)),
        m => format!("{}µs", trimmed(m, 0)),
    }
}

/// Bytes per second as bits: `10mbit`.
fn bits(rate: u64) -> String {
    let bits = rate as f64 * 8.0;
    match bits {
        b if b >= 1e9 => format!("{}gbit", trimmed(b / 1e9, 3)),
        b if b >= 1e6 => format!("{}mbit", trimmed(b / 1e6, 3)),
        b if b >= 1e3 => format!("{}kbit", trimmed(b / 1e3, 3)),
        b => format!("{}bit", trimmed(b, 0)),
    }
}

fn trimmed(number: f64, places: usize) -> String {
    let text = format!("{number:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
