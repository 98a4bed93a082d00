//! `corelane doctor`: what is wrong with this host for a server, and how to mend it.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};

use clap::Args;
use corelane::doctor::{Check, Diagnosis, Verdict, examine};
use serde::Serialize;

use super::{ConfigArguments, Failure, print};

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.config.load(Vec::new()).map_err(Failure::usage)?;
    let diagnosis = examine(&config);
    if arguments.json {
        print(&document(&diagnosis)?)?;
    } else {
        let coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        print(&table(&diagnosis, coloured))?;
    }
    if diagnosis.starts() {
        return Ok(());
    }
    let reasons = diagnosis.refusals.join("; and ");
    Err(Failure::Run(format!(
        "a server would not start here: {reasons}"
    )))
}

#[derive(Serialize)]
struct Document<'a> {
    starts: bool,
    #[serde(flatten)]
    diagnosis: &'a Diagnosis,
}

fn document(diagnosis: &Diagnosis) -> Result<String, Failure> {
    let document = Document {
        starts: diagnosis.starts(),
        diagnosis,
    };
    serde_json::to_string_pretty(&document).map_err(Failure::run)
}

/// A line for each check, with what mends it below, and a last line that sums up.
fn table(diagnosis: &Diagnosis, coloured: bool) -> String {
    let checks = &diagnosis.checks;
    let widest = |text: fn(&Check) -> &str, head: &str, most: usize| {
        let widths = checks.iter().map(|check| text(check).chars().count());
        // A long one may stick out: it need not push all others aside.
        widths
            .filter(|&width| width <= most)
            .max()
            .unwrap_or(0)
            .max(head.len())
    };
    let topic_width = widest(|check| &check.topic, "what", 24);
    let is_width = widest(|check| &check.is, "is", 44);
    let mut out = String::new();
    let mut row = |verdict: &str, topic: &str, is: &str, should: &str| {
        let _ = writeln!(
            out,
            "{verdict}  {topic:topic_width$}  {is:is_width$}  {should}"
        );
    };
    row(&format!("{:VERDICT_WIDTH$}", ""), "what", "is", "should be");
    for check in checks {
        let verdict = verdict(check.verdict, coloured);
        row(&verdict, &check.topic, &check.is, &check.should);
        if let Some(mend) = &check.mend {
            row(
                &format!("{:VERDICT_WIDTH$}", ""),
                "",
                &format!("-> {mend}"),
                "",
            );
        }
    }
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    format!("{}\n\n{}", lines.join("\n"), summary(diagnosis))
}

const VERDICT_WIDTH: usize = 6;

fn verdict(verdict: Verdict, coloured: bool) -> String {
    let name = format!("{:VERDICT_WIDTH$}", verdict.name());
    let colour = match verdict {
        Verdict::Good => "32",
        Verdict::Advice => "33",
        Verdict::Fatal => "1;31",
        Verdict::Unseen => "2",
    };
    if coloured {
        format!("\x1b[{colour}m{name}\x1b[0m")
    } else {
        name
    }
}

fn summary(diagnosis: &Diagnosis) -> String {
    let count = |verdict| diagnosis.count(verdict);
    let mut text = format!(
        "{} good, {} unseen, {} advice, {} fatal: a server {} start here.",
        count(Verdict::Good),
        count(Verdict::Unseen),
        count(Verdict::Advice),
        count(Verdict::Fatal),
        if diagnosis.starts() {
            "would"
        } else {
            "would not"
        },
    );
    let mends: Vec<&str> = diagnosis
        .checks
        .iter()
        .filter_map(|check| check.mend.as_deref())
        .collect();
    let any = |words: &[&str]| {
        mends
            .iter()
            .any(|mend| words.iter().any(|word| mend.contains(word)))
    };
    if any(&["--set "]) {
        text += "\n--set goes behind `corelane`, or what it sets into the configuration file.";
    }
    if any(&["ulimit"]) {
        text += "\nulimit is for servers that its shell starts; a unit has limits of its own.";
    }
    if any(&["sysctl -w", "echo ", "cpupower"]) {
        text += "\nWhat sysctl, echo and cpupower set is lost at the next boot, unless /etc/sysctl.d or \
                 a unit sets it.";
    }
    text
}
