//! Who is answered: reads without a body, so many a second of all connections together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use super::{Site, answers};
use crate::admin::bucket::Bucket;

/// Requests a second, and at once after a pause.
const PER_SECOND: u32 = 50;
const BURST: u32 = 100;

/// What is beyond that waits so long for its answer: with so many connections as there may be, the
/// answers that cost something and give nothing are bounded, too.
const DETENTION: Duration = Duration::from_millis(100);

/// The paths of health checks.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// How many requests there may still be.
#[derive(Debug)]
pub(super) struct Admission {
    began: Instant,
    bucket: Mutex<Bucket>,
}

impl Admission {
    pub(super) fn new() -> Admission {
        Admission {
            began: Instant::now(),
            bucket: Mutex::new(Bucket::new(PER_SECOND, BURST)),
        }
    }

    fn is_within(&self) -> bool {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(now_us)
    }
}

/// Turns away what is not answered here, before anything else is done about it.
pub(super) async fn admit(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let is_within = site.admission.is_within();
    if !is_within {
        tokio::time::sleep(DETENTION).await;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return answers::wrong_method();
    }
    if !request.body().is_end_stream() {
        return answers::too_large();
    }
    if !is_within && !HEALTH.contains(&request.uri().path()) {
        return answers::too_many();
    }
    next.run(request).await
}
