//! The endpoints, and what keeps them from being a burden: who asks too much is answered that, late.
//!
//! Health checks are the exception: they are answered always, or a flood of other requests would look
//! like a server that is not well.

mod activity;
mod admission;
mod answers;
mod connections;
mod places;

pub(super) use connections::serve;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use axum::middleware;
use axum::response::{Html, Response};
use axum::routing::get;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{MissedTickBehavior, interval_at};

use self::admission::Admission;
use super::PlaneHandle;
use super::collector::Collector;
use super::exposition;
use super::json::{self, About, Life, Status};
use super::percentiles;
use super::totals::STEP_US;
use super::vitals;
use crate::process::handle::ServerHandle;

/// Connections that /connections shows if it is not told, and at most.
const CONNECTIONS_DEFAULT: usize = 20;
const CONNECTIONS_MAX: usize = 1000;

/// What all endpoints share.
#[derive(Debug)]
pub(super) struct Site {
    handle: ServerHandle,
    control: PlaneHandle,
    started_at: SystemTime,
    collector: Mutex<Collector>,
    admission: Admission,
}

impl Site {
    pub(super) fn new(handle: ServerHandle, control: PlaneHandle) -> Site {
        Site {
            collector: Mutex::new(Collector::new(handle.clone())),
            admission: Admission::new(),
            started_at: SystemTime::now(),
            handle,
            control,
        }
    }

    fn life(&self) -> Life {
        if self.control.is_draining() || self.handle.goes_down() {
            Life::Draining
        } else if self.handle.has_started() {
            Life::Serving
        } else {
            Life::Starting
        }
    }

    /// Whether connections are accepted on this server's sockets.
    fn is_ready(&self) -> bool {
        self.handle.is_replaced() || self.life() == Life::Serving
    }

    /// `log.stats_seconds`, as it is in force.
    pub(super) fn stats_seconds(&self) -> u32 {
        self.handle.config().log.stats_seconds
    }

    /// All figures, collected just now.
    pub(super) async fn collected(&self) -> MutexGuard<'_, Collector> {
        self.known(0).await
    }

    /// Collects first, unless that has just been done.
    async fn known(&self, connections: usize) -> MutexGuard<'_, Collector> {
        let mut collector = self.collector.lock().await;
        collector.collect(connections).await;
        collector
    }
}

/// Keeps the history going, whoever asks or does not.
pub(super) async fn keep_history(site: &Site) -> Infallible {
    let step = Duration::from_micros(STEP_US);
    let mut ticks = interval_at(tokio::time::Instant::now() + step, step);
    // Late is late: an interval must not be shorter because the one before was longer.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        site.collector.lock().await.close_interval().await;
    }
}

/// All endpoints of a site.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(async || Html(include_str!("dashboard.html"))))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || answers::text("alive\n")))
        .route("/readyz", get(readyz))
        .route("/status", get(status))
        .route("/latency", get(latency))
        .route("/latency.hgrm", get(latency_hgrm))
        .route("/connections", get(connections))
        .route("/config", get(config))
        .fallback(nothing)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&site),
            admission::admit,
        ))
        .with_state(site)
}

async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let vitals = vitals::look(site.started_at, site.is_ready());
    let collector = site.known(0).await;
    match exposition::text(collector.totals(), site.handle.metrics(), &vitals) {
        Ok(text) => answers::content(exposition::CONTENT_TYPE, text),
        Err(error) => answers::failure(&error),
    }
}

async fn readyz(State(site): State<Arc<Site>>) -> Response {
    if site.is_ready() {
        return answers::text("ready\n");
    }
    answers::unavailable(match site.life() {
        Life::Starting => "starting: no connections are accepted yet\n",
        _ => "draining: no new connections are accepted\n",
    })
}

async fn status(State(site): State<Arc<Site>>) -> Response {
    let collector = site.known(Status::CONNECTIONS).await;
    let now_us = collector.now_us();
    let about = About {
        pid: std::process::id(),
        uptime_us: now_us,
        life: site.life(),
    };
    let (totals, connections) = (collector.totals(), collector.connections());
    answers::json(&Status::new(about, totals, connections, now_us))
}

async fn latency(State(site): State<Arc<Site>>) -> Response {
    let collector = site.known(0).await;
    answers::json(&json::Latencies::from(collector.totals()))
}

async fn latency_hgrm(State(site): State<Arc<Site>>) -> Response {
    let collector = site.known(0).await;
    answers::text(percentiles::text(collector.totals()))
}

async fn connections(State(site): State<Arc<Site>>, uri: Uri) -> Response {
    let Some(limit) = limit_of(uri.query()) else {
        return answers::refusal(&format!(
            "limit must be a number from 1 to {CONNECTIONS_MAX}, as in /connections?limit={CONNECTIONS_DEFAULT}\n"
        ));
    };
    let collector = site.known(limit).await;
    answers::json(&json::queued(collector.connections(), limit))
}

/// `None` if it is wrong.
fn limit_of(query: Option<&str>) -> Option<usize> {
    let mut pairs = query.unwrap_or_default().split('&');
    let Some(limit) = pairs.find_map(|pair| pair.strip_prefix("limit=")) else {
        return Some(CONNECTIONS_DEFAULT);
    };
    let limit = limit.parse().ok()?;
    (1..=CONNECTIONS_MAX).contains(&limit).then_some(limit)
}

async fn config(State(site): State<Arc<Site>>) -> Response {
    match serde_json::to_value(site.handle.config()) {
        Ok(document) => answers::json(&json::without_secrets(document)),
        Err(error) => answers::failure(&error),
    }
}

async fn nothing(uri: Uri) -> Response {
    answers::not_found(uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_in_range() {
        for (query, limit) in [
            (None, Some(20)),
            (Some(""), Some(20)),
            (Some("other=1"), Some(20)),
            (Some("limit=1"), Some(1)),
            (Some("a=b&limit=1000"), Some(1000)),
            (Some("limit=0"), None),
            (Some("limit=1001"), None),
            (Some("limit="), None),
            (Some("limit=-1"), None),
        ] {
            assert_eq!(limit_of(query), limit, "{query:?}");
        }
    }
}
