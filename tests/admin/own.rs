//! Metrics of a program's own, beside those of the server.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corelane::metrics::own::{Durations, Metric, MetricError};
use corelane::protocol::codes;
use corelane::{Config, Server, ServerBuilder, StartError, apps};

use crate::http::{get, metrics};
use crate::plane::Admin;
use crate::support::library::{address_of, config};
use crate::support::peer::Peer;
use crate::support::waiting::until;

const ORDER: u16 = 1000;

#[derive(Default)]
struct Shop {
    orders: Cell<u64>,
    /// By whether they were large.
    sizes: [Cell<u64>; 2],
}

fn shop(config: Config) -> ServerBuilder<Shop> {
    Server::builder_with_state(config, |_local| Shop::default())
        .handler(codes::PING, apps::ping)
        .handler(ORDER, |shop, context, body| {
            shop.orders.set(shop.orders.get() + 1);
            let size = &shop.sizes[usize::from(body.len() > 10)];
            size.set(size.get() + 1);
            context.reply(b"")
        })
}

fn orders() -> Metric {
    Metric::counter("shop_orders_total", "Orders that were taken.")
}

#[test]
fn figures_of_shards_and_of_the_server_are_shown() {
    let payments = Arc::new(Durations::new());
    let stock = Arc::new(AtomicU64::new(7));
    let in_stock = Arc::clone(&stock);
    let sizes = Metric::counter("shop_orders_by_size_total", "Orders by \"size\".");
    let server = shop(config(2))
        .metric(orders().of_shard(|shop: &Shop| shop.orders.get()))
        .metric(
            sizes
                .by("size", ["small", "large"])
                .of_shard(|shop: &Shop| shop.sizes.each_ref().map(Cell::get)),
        )
        .metric(
            Metric::gauge("shop_stock", "Things in stock.")
                .of_server(move || in_stock.load(Ordering::Relaxed)),
        )
        .metric(
            Metric::gauge(
                "shop_discount_ratio",
                "By how much things are cheaper, by kind.",
            )
            .by("kind", ["chair", "table"])
            .of_server(|| [0.25, f64::NAN]),
        )
        .metric(
            Metric::gauge("shop_open_seconds", "For how long it has been open.")
                .of_server(|| Duration::from_millis(1500)),
        )
        .metric(Metric::durations(
            "shop_payment_seconds",
            "What paying takes.",
            &payments,
        ))
        .start()
        .unwrap();
    let admin = Admin::of(&server);
    let mut peers: Vec<Peer> = (0..10)
        .map(|_| Peer::connect(address_of(&server)))
        .collect();
    for peer in &mut peers {
        for body in [&b"a chair"[..], b"a table", b"a sofa for five"] {
            peer.send(ORDER, body);
            peer.expect(ORDER, b"");
        }
    }
    payments.record(Duration::from_millis(3));
    payments.record(Duration::from_secs(20));
    stock.store(8, Ordering::Relaxed);
    // A shard that was asked right before is asked again a quarter of a second later.
    let samples = until("all orders are there", || {
        let samples = metrics(admin.address);
        let of = |shard: u8| samples.get(&format!("shop_orders_total{{shard=\"{shard}\"}}"));
        (of(0)? + of(1)? >= 30.0).then_some(samples)
    });
    let of = |sample: &str| samples[sample];
    let near =
        |value: f64, right: f64| assert!((value - right).abs() < 1e-9, "{value}, not {right}");
    let by_size = |size| {
        let of_shard = |shard: u8| {
            of(&format!(
                "shop_orders_by_size_total{{shard=\"{shard}\",size=\"{size}\"}}"
            ))
        };
        of_shard(0) + of_shard(1)
    };
    near(by_size("small"), 20.0);
    near(by_size("large"), 10.0);
    near(of("shop_stock"), 8.0);
    near(of("shop_discount_ratio{kind=\"chair\"}"), 0.25);
    assert!(!samples.contains_key("shop_discount_ratio{kind=\"table\"}"));
    near(of("shop_open_seconds"), 1.5);
    near(of("shop_payment_seconds_bucket{le=\"0.0025\"}"), 0.0);
    near(of("shop_payment_seconds_bucket{le=\"0.005\"}"), 1.0);
    near(of("shop_payment_seconds_bucket{le=\"10\"}"), 1.0);
    near(of("shop_payment_seconds_bucket{le=\"+Inf\"}"), 2.0);
    near(of("shop_payment_seconds_sum"), 20.003);
    near(of("shop_payment_seconds_count"), 2.0);
    let text = get(admin.address, "/metrics").body;
    for line in [
        "# HELP shop_orders_total Orders that were taken.\n# TYPE shop_orders_total counter\n",
        "# TYPE shop_stock gauge\n",
        "# TYPE shop_payment_seconds histogram\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn a_figure_that_panics_is_missing_and_nothing_else_is() {
    let server = shop(config(1))
        .metric(
            Metric::gauge("shop_broken", "It can't be read.")
                .by("kind", ["chair", "table"])
                .of_shard(|_shop: &Shop| -> [u64; 2] { panic!("no figures today") }),
        )
        .metric(
            Metric::gauge("shop_broken_elsewhere", "Nor can this.")
                .of_server(|| -> u64 { panic!("none here either") }),
        )
        .metric(orders().of_shard(|shop: &Shop| shop.orders.get()))
        .start()
        .unwrap();
    let admin = Admin::of(&server);
    let mut peer = Peer::connect(address_of(&server));
    peer.send(ORDER, b"a chair");
    peer.expect(ORDER, b"");
    let samples = until("the order is there", || {
        let samples = metrics(admin.address);
        let orders = samples.get("shop_orders_total{shard=\"0\"}")?;
        (*orders > 0.5).then_some(samples)
    });
    assert!(
        !samples
            .keys()
            .any(|sample| sample.starts_with("shop_broken"))
    );
    peer.ping();
}

#[test]
fn a_metric_by_other_conventions_keeps_the_server_from_starting() {
    let wrong = Metric::counter("shop_orders", "Orders.").of_shard(|shop: &Shop| shop.orders.get());
    let error = shop(config(1)).metric(wrong).start().unwrap_err();
    assert!(
        matches!(error, StartError::Metric(MetricError::Ending { .. })),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "the metric shop_orders is a counter: its name has to end in _total"
    );
    let twice = || orders().of_shard(|shop: &Shop| shop.orders.get());
    let error = shop(config(1))
        .metric(twice())
        .metric(twice())
        .start()
        .unwrap_err();
    assert!(
        matches!(error, StartError::Metric(MetricError::Twice { .. })),
        "{error:?}"
    );
}
