//! What people read: tables, and in words what the figures do and do not say.

use super::bootstrap::{DRAWS, Fitted, Interval, Outcome};
use super::model::{CORES, Model, Row, Series};
use super::plan::{LoadOn, Setup, list};
use super::support::stats::{Spread, Table, digits};
use super::turn::{Turn, Workload};
use super::usl::Law;

/// How much the CPU cost of a message may grow from one shard to more.
const RATIO_MAX: &str = "at most 1.05";

/// Waiting for more than this share of the time is worth a line.
const DISTURBED: f64 = 0.01;

/// Each setup with its figures.
pub(crate) fn measured(rows: &[Row], workload: &Workload) -> String {
    let mut table = Table::new(&[
        "shards",
        "load on",
        "connections",
        "messages/s",
        "server CPU us/message",
        "messages/s with a core each",
        "p50 us",
        "p99 us",
        "shards busy",
        "load CPU us/message",
    ]);
    for row in rows {
        let told = |figure: fn(&Turn) -> f64| row.spread(figure).text();
        table.row(vec![
            shards(&row.setup),
            load_on(&row.setup),
            workload.connections(&row.setup).to_string(),
            told(|turn| turn.per_second),
            told(|turn| turn.server_us),
            row.capacity().text(),
            told(|turn| turn.p50_us),
            told(|turn| turn.p99_us),
            row.busy().percent(),
            told(|turn| turn.load_us),
        ]);
    }
    let disturbed: Vec<String> = rows.iter().filter_map(disturbance).collect();
    format!("{table}\n{}", disturbed.concat())
}

pub(crate) fn shards(setup: &Setup) -> String {
    match &setup.shard_cpus {
        Some(cpus) if setup.separate => {
            format!("{} servers of 1, on {}", setup.shards, cpu_words(cpus))
        }
        Some(cpus) => format!("{} on {}", setup.shards, cpu_words(cpus)),
        None => format!("{}, not pinned", setup.shards),
    }
}

fn load_on(setup: &Setup) -> String {
    let cpus = cpu_words(&setup.load_cpus);
    match setup.load_on {
        LoadOn::Others if setup.cores_shared => format!("{cpus}, of the SHARDS' CORES"),
        LoadOn::Others => cpus,
        LoadOn::Every => format!("{cpus}, SHARED with shards"),
    }
}

fn cpu_words(cpus: &[usize]) -> String {
    let name = if cpus.len() == 1 { "CPU" } else { "CPUs" };
    format!("{name} {}", list(cpus))
}

/// Where the load has CPUs of its own, shards that wait for theirs were disturbed by others.
fn disturbance(row: &Row) -> Option<String> {
    if row.setup.load_on == LoadOn::Every {
        return None;
    }
    let waited = |turn: &Turn| {
        let seconds = turn.seconds * row.setup.shards as f64;
        turn.server_waited_seconds.unwrap_or_default() / seconds
    };
    let most = row.spread(waited).max;
    (most > DISTURBED).then(|| {
        format!(
            "disturbed: with {}, other programs kept shards off their CPUs for up to {:.1}% of a \
             repeat\n",
            shards(&row.setup),
            most * 100.0
        )
    })
}

/// The claim: what a message costs does not grow with the number of shards.
pub(crate) fn ratios(all: &[Series]) -> Option<String> {
    let mut table = Table::new(&[
        "server CPU us/message",
        "load on",
        "ratio within a repeat",
        "expected",
    ]);
    let mut rows = 0;
    for series in all {
        for row in series.rows.iter().filter(|row| row.setup.shards > 1) {
            let shards = row.setup.shards;
            let bases = [
                (series.base(), "1 shard".to_owned()),
                (
                    series.separate_of(row),
                    format!("{shards} servers of 1 shard"),
                ),
            ];
            for (base, name) in bases {
                let Some(base) = base else { continue };
                rows += 1;
                let expected = if row.setup.pinned() { RATIO_MAX } else { "-" };
                table.row(vec![
                    format!("{shards} shards / {name}"),
                    place(series.load_on).to_owned(),
                    row.cost_ratio(base).text(),
                    expected.to_owned(),
                ]);
            }
        }
    }
    (rows > 0).then(|| table.to_string())
}

fn place(load_on: LoadOn) -> &'static str {
    match load_on {
        LoadOn::Others => "other CPUs",
        LoadOn::Every => "every CPU",
    }
}

/// What the law says, and how far that goes.
pub(crate) fn model(model: &Model, seed: u64) -> String {
    let past = if model.past {
        ", counts past the CPUs included"
    } else {
        ""
    };
    let head = format!("load on {}{past}: ", place(model.load_on));
    if matches!(model.outcome, Outcome::Nothing) {
        return format!("{head}no fit, as one count of shards says nothing of others.\n");
    }
    let mut text = format!("{head}fitted to {}.\n\n", model.basis);
    text += &terms(model).to_string();
    text += "\n";
    text += &foretold(model).to_string();
    text += "\n";
    for sentence in caveats(model, seed) {
        text += &sentence;
        text += "\n";
    }
    text
}

fn terms(model: &Model) -> Table {
    let mut table = Table::new(&[
        "loss by",
        "one shard alone, us/message",
        "contention (sigma)",
        "coherency (kappa)",
        "more shards give less from",
    ]);
    for (name, fitted) in model.fits() {
        table.row(vec![
            name.to_owned(),
            told(fitted, |law| law.us_alone, digits),
            told(fitted, |law| law.contention, term),
            told(fitted, |law| law.coherency, term),
            told(fitted, Law::peak, peak),
        ]);
    }
    table
}

fn foretold(model: &Model) -> Table {
    let fits = model.fits();
    let mut head = vec!["cores".to_owned(), "linear, messages/s".to_owned()];
    for (name, _) in &fits {
        head.push(format!("loss by {name}, messages/s"));
        head.push("of linear".to_owned());
    }
    let mut table = Table::new(&head.iter().map(String::as_str).collect::<Vec<_>>());
    for cores in CORES {
        let linear = fits
            .first()
            .map(|(_, fitted)| f64::from(cores) * 1e6 / fitted.fit.law.us_alone);
        let mut cells = vec![cores.to_string(), digits(linear.unwrap_or_default())];
        for (_, fitted) in &fits {
            let per_second = |law: &Law| law.per_second(f64::from(cores));
            let share = |law: &Law| law.us_alone / law.us(f64::from(cores));
            cells.push(told(fitted, per_second, digits));
            cells.push(told(fitted, share, percent));
        }
        table.row(cells);
    }
    table
}

/// A figure and its interval.
fn told(fitted: &Fitted, figure: impl Fn(&Law) -> f64, text: fn(f64) -> String) -> String {
    let value = text(figure(&fitted.fit.law));
    match fitted.interval(figure) {
        Some(Interval { low, high }) => format!("{value} [{}..{}]", text(low), text(high)),
        None => value,
    }
}

fn caveats(model: &Model, seed: u64) -> Vec<String> {
    let repeats = model.costs.us.first().map_or(0, Vec::len);
    let measured = model.costs.shards.iter().max().copied().unwrap_or(0);
    let mut sentences = Vec::new();
    if matches!(model.outcome, Outcome::Between { .. }) {
        sentences.push(
            "Two counts do not tell contention from coherency: each row takes all loss for one of \
             them, and what can be said lies between the two."
                .to_owned(),
        );
    }
    let held = |of: fn(&Fitted) -> bool| model.fits().iter().any(|(_, fitted)| of(fitted));
    let terms: Vec<&str> = [
        ("contention", held(|fitted| fitted.fit.contention_held)),
        ("coherency", held(|fitted| fitted.fit.coherency_held)),
    ]
    .into_iter()
    .filter_map(|(term, held)| held.then_some(term))
    .collect();
    if !terms.is_empty() {
        sentences.push(format!(
            "Least squares alone would make {} negative: messages got cheaper with more shards \
             than the law allows, so it is held at 0.",
            terms.join(" or ")
        ));
    }
    if model.past {
        sentences.push(
            "Past the CPUs, shards take turns on them: what that costs is in the fit, so it \
             foretells too little rather than too much."
                .to_owned(),
        );
    }
    if model.cores_shared {
        sentences.push(
            "Some of the threads share a core and slow each other down: what that costs is in the \
             fit, though it is no matter of the number of shards."
                .to_owned(),
        );
    }
    sentences.push(match repeats {
        1 => "One repeat has no interval.".to_owned(),
        _ => format!(
            "Brackets hold 95%, by the noise of {repeats} repeats alone (bootstrap, {DRAWS} draws, \
             seed {seed}). That the law holds beyond the {measured} shard{} that were measured is \
             assumed.",
            if measured == 1 { "" } else { "s" }
        ),
    });
    sentences
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

/// Two digits, as more are not known.
fn term(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value >= 0.1 => format!("{value:.2}"),
        value if value >= 0.01 => format!("{value:.3}"),
        value if value >= 0.001 => format!("{value:.4}"),
        value => format!("{value:.1e}"),
    }
}

fn peak(shards: f64) -> String {
    match shards {
        shards if shards.is_infinite() => "never".to_owned(),
        shards if shards >= 9999.5 => "10k or more".to_owned(),
        shards => format!("{shards:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{series, tests::rows};
    use super::*;

    fn told_models(rows: &[Row]) -> Vec<String> {
        let models = |series: &Series| series.models(0, 1);
        let models = series(rows).iter().flat_map(models).collect::<Vec<_>>();
        models.iter().map(|one| model(one, 1)).collect()
    }

    #[test]
    fn one_count_has_no_fit_and_two_have_a_range() {
        let told = told_models(&rows(2, 0, 0.5));
        assert_eq!(
            told[0],
            "load on other CPUs: no fit, as one count of shards says nothing of others.\n"
        );
        assert!(
            told[1].contains("do not tell contention from coherency"),
            "{}",
            told[1]
        );
        assert!(
            told[1].contains("shards and load share CPUs"),
            "{}",
            told[1]
        );
        assert!(told[1].contains("seed 1"), "{}", told[1]);
    }

    #[test]
    fn a_gain_is_said() {
        let mut rows = rows(4, 0, 0.5);
        for row in &mut rows {
            let off = 1.0 / row.setup.shards as f64;
            row.turns.iter_mut().for_each(|turn| turn.server_us *= off);
        }
        let told = told_models(&rows);
        assert!(told[2].contains("make contention"), "{told:?}");
    }

    #[test]
    fn ratios_compare_like_with_like() {
        let rows = rows(2, 4, 0.5);
        let text = ratios(&series(&rows)).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("| 2 shards / 1 shard") && lines[0].contains(RATIO_MAX));
        assert!(lines[1].contains("| 2 shards / 2 servers") && lines[1].contains(RATIO_MAX));
        assert!(lines[2].contains("| 4 shards / 1 shard") && lines[2].contains("| -"));
    }

    #[test]
    fn shared_cpus_are_said_in_their_row() {
        let rows = rows(2, 0, 0.5);
        assert_eq!(load_on(&rows[0].setup), "CPU 1");
        assert_eq!(load_on(&rows[1].setup), "CPUs 0,1, SHARED with shards");
        assert_eq!(shards(&rows[2].setup), "2 on CPUs 0,1");
        assert_eq!(shards(&rows[3].setup), "2 servers of 1, on CPUs 0,1");
    }

    #[test]
    fn small_terms_keep_two_digits() {
        let told = [0.0, 0.314, 0.0314, 0.00314, 3.14e-5].map(term);
        assert_eq!(told, ["0", "0.31", "0.031", "0.0031", "3.1e-5"]);
        assert_eq!([f64::INFINITY, 31.6].map(peak), ["never", "32"]);
    }
}
