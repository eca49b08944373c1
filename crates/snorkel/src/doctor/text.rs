//! The report for people: one line a finding, grouped; what is not well is followed by what is lost and how to get
//! it. At most [`COLUMNS`] wide. No colour codes: the caller's `paint` decides.

use unicode_width::UnicodeWidthChar;

use super::{Finding, Group, Report, Verdict};
use crate::render::text::printable;

/// No line is wider.
const COLUMNS: usize = 100;
/// The column where the subject stands, behind the mark; what is lost stands there too.
const SUBJECT: usize = 12;
/// A subject that is longer has a line of its own.
const LONG: usize = 32;

/// What a piece of text is, for the caller to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    /// The name of a group.
    Heading,
    /// A mark.
    Mark(Verdict),
    /// "lost:" and "get it:".
    Label,
}

/// Renders a report. `paint` gets each piece that may be coloured and returns it with its colours, or as it is; it
/// must not change what is seen.
pub(crate) fn text(report: &Report, paint: impl Fn(Ink, &str) -> String) -> String {
    let mut out = format!("snorkel doctor: {}\n", clean(&report.kernel));
    for (group, heading) in
        [(Group::Rights, "Rights"), (Group::Kernel, "Kernel"), (Group::Engines, "Engines")]
    {
        let findings: Vec<&Finding> = report.findings.iter().filter(|f| f.group == group).collect();
        if findings.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{}\n", paint(Ink::Heading, heading)));
        let subjects = findings.iter().map(|f| width(&clean(&f.subject)));
        let column = subjects.filter(|wide| *wide <= LONG).max().unwrap_or(0);
        let shared = shared(&findings);
        findings.iter().for_each(|finding| entry(&mut out, finding, column, &shared, &paint));
        for (remedy, count) in shared {
            let label = format!("get the other {count}:");
            out.push_str(&format!("{}{}", spaces(SUBJECT), paint(Ink::Label, &label)));
            lines(&mut out, " ", &clean(remedy), SUBJECT + width(&label));
        }
    }
    out.push('\n');
    lines(&mut out, "", &counts(report), 0);
    lines(&mut out, "", &conclusion(report), 0);
    out
}

/// The remedies that many findings have in common: they are said once, behind all.
fn shared<'a>(findings: &[&'a Finding]) -> Vec<(&'a str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for finding in findings.iter().filter(|finding| explained(finding)) {
        match counts.iter_mut().find(|(remedy, _)| *remedy == finding.remedy) {
            Some((_, count)) => *count += 1,
            None => counts.push((&finding.remedy, 1)),
        }
    }
    counts.retain(|(remedy, count)| *count > 3 && !remedy.is_empty());
    counts
}

/// Whether what is lost and the remedy are worth lines.
fn explained(finding: &Finding) -> bool {
    !matches!(finding.verdict, Verdict::Ok | Verdict::Absent)
}

fn entry(
    out: &mut String,
    finding: &Finding,
    column: usize,
    shared: &[(&str, usize)],
    paint: &impl Fn(Ink, &str) -> String,
) {
    let mark = mark(finding.verdict);
    let subject = clean(&finding.subject);
    out.push_str(&format!(
        "  {}{}",
        paint(Ink::Mark(finding.verdict), mark),
        spaces(SUBJECT - 2 - width(mark))
    ));
    if width(&subject) <= column {
        let begun = format!("{subject}{}  ", spaces(column - width(&subject)));
        lines(out, &begun, &clean(&finding.found), SUBJECT);
    } else {
        lines(out, "", &subject, SUBJECT);
        out.push_str(&spaces(SUBJECT + 2));
        lines(out, "", &clean(&finding.found), SUBJECT + 2);
    }
    if !explained(finding) {
        return;
    }
    let remedy = match shared.iter().any(|(remedy, _)| *remedy == finding.remedy) {
        true => "",
        false => &finding.remedy,
    };
    for (label, said) in [("lost:", finding.lost.as_str()), ("get it:", remedy)] {
        if !said.is_empty() {
            out.push_str(&format!("{}{}", spaces(SUBJECT), paint(Ink::Label, label)));
            lines(out, &spaces(8 - width(label)), &clean(said), SUBJECT + width(label));
        }
    }
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Degraded => "degraded",
        Verdict::Missing => "MISSING",
        Verdict::Absent => "absent",
        Verdict::Unknown => "unknown",
    }
}

fn counts(report: &Report) -> String {
    let count = |verdict| report.findings.iter().filter(|f| f.verdict == verdict).count();
    [Verdict::Ok, Verdict::Degraded, Verdict::Missing, Verdict::Absent, Verdict::Unknown]
        .map(|verdict| format!("{} {}", count(verdict), mark(verdict).to_lowercase()))
        .join(", ")
}

fn conclusion(report: &Report) -> String {
    if report.core_ok() {
        return "Containers can be entered and seen.".to_owned();
    }
    let failed = report.findings.iter().filter(|f| f.core);
    let failed = failed.filter(|f| !matches!(f.verdict, Verdict::Ok | Verdict::Degraded));
    let subjects: Vec<String> = failed.map(|f| clean(&f.subject)).collect();
    format!("Containers cannot be entered as things are; see {}.", subjects.join(", "))
}

/// Writes `begun` and then words, on a line of which `at` columns are written; goes on below the first word.
fn lines(out: &mut String, begun: &str, words: &str, at: usize) {
    let indent = at + width(begun);
    out.push_str(begun);
    let mut column = indent;
    for word in words.split_whitespace() {
        for (index, piece) in pieces(word, COLUMNS - indent).enumerate() {
            let gap = usize::from(index == 0 && column > indent);
            if column + gap + width(&piece) > COLUMNS {
                out.push('\n');
                out.push_str(&spaces(indent));
                column = indent;
            } else {
                out.push_str(&spaces(gap));
                column += gap;
            }
            column += width(&piece);
            out.push_str(&piece);
        }
    }
    while out.ends_with(' ') {
        out.pop();
    }
    out.push('\n');
}

/// Cuts a word that is wider than a line.
fn pieces(word: &str, most: usize) -> impl Iterator<Item = String> {
    let mut pieces = vec![String::new()];
    let mut wide = 0;
    for char in word.chars() {
        if wide + columns(char) > most {
            pieces.push(String::new());
            wide = 0;
        }
        wide += columns(char);
        if let Some(last) = pieces.last_mut() {
            last.push(char);
        }
    }
    pieces.into_iter()
}

/// Text from outside on one line, safe for a terminal.
fn clean(text: &str) -> String {
    printable(&text.replace(['\n', '\t'], " ")).into_owned()
}

fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// How many columns a character takes. Counted one by one: what takes fewer together breaks a line early at worst.
fn columns(char: char) -> usize {
    char.width().unwrap_or(0)
}

fn spaces(count: usize) -> String {
    " ".repeat(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn finding(group: Group, subject: &str, verdict: Verdict, words: [&str; 3]) -> Finding {
        let [found, lost, remedy] = words.map(str::to_owned);
        Finding { id: "test", subject: subject.into(), group, core: false, verdict, found, lost, remedy }
    }

    fn report(findings: Vec<Finding>) -> Report {
        Report { schema: 1, kernel: "Linux 6.18.0 x86_64".into(), findings }
    }

    fn plain(report: &Report) -> String {
        text(report, |_, piece| piece.to_owned())
    }

    #[test]
    fn is_grouped_and_says_what_is_lost_only_where_something_is() {
        let report = report(vec![
            finding(Group::Rights, "CAP_SYS_ADMIN", Verdict::Ok, ["in the effective set", "", ""]),
            finding(Group::Kernel, "tcx", Verdict::Ok, ["a program can be attached", "", ""]),
            finding(
                Group::Kernel,
                "netem qdisc",
                Verdict::Missing,
                ["cannot attach", "no delays", "modprobe sch_netem"],
            ),
            finding(
                Group::Engines,
                "docker /run/docker.sock",
                Verdict::Absent,
                ["not here", "names", "start it"],
            ),
        ]);
        let want = "\
snorkel doctor: Linux 6.18.0 x86_64

Rights
  ok        CAP_SYS_ADMIN  in the effective set

Kernel
  ok        tcx          a program can be attached
  MISSING   netem qdisc  cannot attach
            lost:   no delays
            get it: modprobe sch_netem

Engines
  absent    docker /run/docker.sock  not here

2 ok, 0 degraded, 1 missing, 1 absent, 0 unknown
Containers can be entered and seen.
";
        assert_eq!(plain(&report), want);
    }

    #[test]
    fn a_missing_core_is_named_at_the_end() {
        let mut admin = finding(Group::Rights, "CAP_SYS_ADMIN", Verdict::Missing, ["no", "all", "sudo"]);
        admin.core = true;
        let text = plain(&report(vec![admin]));
        assert!(text.ends_with("Containers cannot be entered as things are; see CAP_SYS_ADMIN.\n"), "{text}");
    }

    #[test]
    fn long_words_go_on_below_the_first() {
        let path = format!("docker /{}", "deep/".repeat(30));
        let text =
            plain(&report(vec![finding(Group::Engines, &path, Verdict::Unknown, ["hangs", "much", "wait"])]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[3], "  unknown   docker");
        assert!(
            lines[4].starts_with("            /deep/deep/") && lines[5].starts_with("            "),
            "{text}"
        );
        assert!(
            text.contains("\n              hangs\n            lost:   much\n            get it: wait\n"),
            "{text}"
        );
    }

    #[test]
    fn a_remedy_of_many_is_said_once() {
        let missing = |subject| finding(Group::Rights, subject, Verdict::Missing, ["no", "much", "sudo"]);
        let text = plain(&report(["A", "B", "C", "D"].map(missing).to_vec()));
        assert!(
            text.contains(
                "  MISSING   D  no\n            lost:   much\n            get the other 4: sudo\n\n"
            ),
            "{text}"
        );
        assert_eq!(text.matches("sudo").count(), 1, "{text}");
    }

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        let evil =
            finding(Group::Engines, "docker \u{1b}[2J", Verdict::Ok, ["1.0\u{202e}\r\nok  all", "", ""]);
        let text = plain(&report(vec![evil]));
        assert!(text.contains(r"docker \u{1b}[2J") && text.contains(r"1.0\u{202e}\r ok all"), "{text}");
    }

    #[test]
    fn paint_gets_marks_headings_and_labels() {
        let report =
            report(vec![finding(Group::Kernel, "tcx", Verdict::Degraded, ["no", "some", "a kernel"])]);
        let text = text(&report, |ink, piece| format!("<{ink:?} {piece}>"));
        assert!(text.contains("<Heading Kernel>\n  <Mark(Degraded) degraded>  tcx  no\n"), "{text}");
        assert!(
            text.contains("<Label lost:>   some\n") && text.contains("<Label get it:> a kernel\n"),
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_none_ends_in_space(subject in any::<String>(), found in "\\PC{0,300}", lost in "[a-z /]{0,300}") {
            for verdict in [Verdict::Ok, Verdict::Unknown] {
                let text = plain(&report(vec![finding(Group::Engines, &subject, verdict, [&found, &lost, &found])]));
                for line in text.lines() {
                    prop_assert!(width(line) <= COLUMNS, "{} columns: {line:?}", width(line));
                    prop_assert!(!line.ends_with(' '), "{line:?}");
                    prop_assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
                }
            }
        }
    }
}
