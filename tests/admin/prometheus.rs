//! The exposition, as Prometheus' own tool reads it. It need not be there for `cargo test`, so the text
//! is left behind for `tests/admin/promtool`, and judged here by what doesn't take a tool.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use corelane::Reply;
use corelane::metrics::own::Metric;
use corelane::protocol::Reason;

use crate::applications::{State, accounts, builder};
use crate::http::{get, metrics};
use crate::plane::Admin;
use crate::support::library::{address_of, builder_with, config};
use crate::support::user::{User as _, connect};
use crate::support::waiting::until;

#[test]
fn the_exposition_is_left_for_promtool() {
    let mut config = config(2);
    let accounts = accounts(&mut config);
    let stock = Metric::gauge("shop_stock", "Things in stock, by kind.").by("kind", ["chair"]);
    let server = builder(config, &accounts)
        .handler(1002, |_state, _context, _body| Reply::none())
        .metric(stock.of_shard(|_state: &State| [1_u64]))
        .start()
        .unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    client.echo(b"x");
    client.tell(1002, b"").unwrap();
    client.ask_in_vain(99, b"", Reason::UnknownCode);
    until("all codes are counted", || {
        let counted = |name: &str| metrics(admin.address).contains_key(name);
        counted("corelane_request_queued_seconds_count{code=\"other\"}").then_some(())
    });
    let text = get(admin.address, "/metrics").body;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("exposition.txt");
    fs::write(path, &text).unwrap();

    // Every sample belongs to the family above it, whose HELP and TYPE it follows.
    let mut family = String::new();
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            help.split(' ').next().unwrap().clone_into(&mut family);
            assert!(families.insert(family.clone()), "{family} is there twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kind.starts_with(&format!("{family} ")), "{line}");
        } else {
            assert!(line.starts_with(&family), "{line} under {family}");
        }
    }
}

#[test]
fn buckets_grow_up_to_the_count() {
    let server = builder_with(config(1)).start().unwrap();
    let admin = Admin::of(&server);
    let mut client = connect(address_of(&server));
    (0..200).for_each(|_| client.echo(b"x"));
    let text = get(admin.address, "/metrics").body;
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter_map(|line| {
            let rest =
                line.strip_prefix("corelane_request_queued_seconds_bucket{code=\"1\",le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            let bound = bound.replace("+Inf", "inf").parse().ok()?;
            Some((bound, count.parse().ok()?))
        })
        .collect();
    assert_eq!(buckets.len(), 20);
    assert!(buckets.is_sorted(), "{buckets:?}");
    let counts = buckets.iter().map(|&(_, count)| count);
    assert!(counts.is_sorted(), "{buckets:?}");
    assert!((buckets[19].1 - 200.0).abs() < 0.5, "{buckets:?}");
}
