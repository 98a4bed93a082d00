//! The page: what is on it, from the top to the bottom.

use super::markup::escape;
use super::{Run, comparison, notices, plots, settings, tables};
use crate::load::record::Record;

/// Everything about how it looks; nothing is fetched.
const STYLE: &str = include_str!("style.css");

/// The report of one run, or of several that lie over one another; as a whole HTML document.
pub fn page(runs: &[Run]) -> String {
    let (title, content) = match runs {
        [] => (
            "No runs".to_owned(),
            "<p>There are no runs.</p>\n".to_owned(),
        ),
        [run] => one(run),
        runs => several(runs),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <title>{title} \u{2013} corelane load</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <main>\n{content}</main>\n</body>\n</html>\n",
    )
}

/// The title of the page and its content.
fn one(run: &Run) -> (String, String) {
    let record = &run.record;
    let title = escape(&run.name);
    let place = format!(
        "{} on {}, {}, {}",
        settings::began(&record.began_at),
        record.host.name,
        record.host.cpu_model,
        record.host.kernel
    );
    let header = header(
        &title,
        &settings::sentence(&record.settings),
        &escape(&place),
    );
    let notices = notices::of_run(run, true);
    let content = [
        header,
        notices,
        tables::headline(record),
        plots::sections(std::slice::from_ref(run)),
        tables::sections(record),
        how_measured(&[record]),
    ];
    (title, content.concat())
}

fn several(runs: &[Run]) -> (String, String) {
    let names: Vec<String> = runs.iter().map(|run| escape(&run.name)).collect();
    let title = names.join(", ");
    let records: Vec<&Record> = runs.iter().map(|run| &run.record).collect();
    let mut notices = notices::different_machines(runs);
    notices += &notices::different_waiting(runs);
    notices.extend(runs.iter().map(|run| notices::of_run(run, false)));
    let content = [
        header("comparison", &format!("{} runs", runs.len()), &title),
        notices,
        comparison::figures(runs),
        plots::sections(runs),
        comparison::facts(runs),
        how_measured(&records),
    ];
    (title, content.concat())
}

/// All as markup.
fn header(name: &str, sentence: &str, place: &str) -> String {
    format!(
        "<header>\n<p class=\"kind\">corelane load: {name}</p>\n<h1>{sentence}</h1>\n\
         <p class=\"place\">{place}</p>\n</header>\n"
    )
}

/// What the latencies are of: without it they can't be compared.
fn how_measured(records: &[&Record]) -> String {
    let is_open = |record: &&&Record| record.settings.rate.is_some();
    let open = records.iter().filter(is_open).count();
    let mut html = String::from("<footer>\n<p>");
    if open < records.len() {
        html.push_str(
            "In a closed loop, latency is from when a request was sent to its reply. A connection \
             waits for replies before it sends more, so while a server stalls few requests are sent, \
             and percentiles show the stall smaller than clients at a steady rate would feel it. ",
        );
    }
    if open > 0 {
        html.push_str(
            "In an open loop, latency is from when a request should have been sent by its rate to \
             its reply, so a server that stalls can't hide it: requests that had to wait count with \
             their wait. ",
        );
    }
    html.push_str(
        "Latencies are kept in a histogram with three significant digits; messages of the warm-up \
         do not count.</p>\n</footer>\n",
    );
    html
}
