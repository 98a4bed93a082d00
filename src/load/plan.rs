//! What a run is to do, and whether it can.

use std::net::SocketAddr;
use std::time::Duration;

use super::record::Settings;
use super::requests;
use super::session::{self, Shape};
use crate::protocol::{FRAME_BYTES_MAX, HEADER_BYTES, codes};

/// Memory that the encoded requests of all connections may take, in bytes.
const REQUESTS_BYTES_MAX: usize = 1 << 30;

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server's address.
    pub address: SocketAddr,
    /// Connections, over all threads.
    pub connections: usize,
    /// Requests in flight on a connection, at most.
    pub pipeline: usize,
    /// Requests a second over all connections, at fixed times, whatever the server does (an open
    /// loop); `None` to send the next one when a reply came (a closed loop).
    pub rate: Option<f64>,
    /// Bytes of each request's body.
    pub body_bytes: usize,
    /// The requests' message code. The reply must have the same one, and with
    /// [`codes::ECHO`] and [`codes::PING`] the same body too.
    pub code: u16,
    /// The time that is measured.
    pub duration: Duration,
    /// The time before it, of which nothing counts.
    pub warmup: Duration,
    /// A reply that takes longer is late, and so long is waited for the last ones. Connecting may
    /// take as long.
    pub timeout: Duration,
    /// Threads that drive the connections; no more than connections are used.
    pub threads: usize,
    /// The CPUs to pin the threads to, in turn; empty for the kernel's choice.
    pub cpus: Vec<usize>,
    /// How long a thread looks for something to do before it sleeps; zero to sleep at once. It is also
    /// awake as long before a request is due. Where a thread has a CPU of its own, that keeps the
    /// time that waking takes out of the latencies, and the work of it off the server's CPU; where it
    /// shares one, it keeps others off it.
    pub busy_poll: Duration,
    /// The server's process, if it is on this host, so that its CPU time and memory can be measured.
    /// It must be there when the run begins.
    pub server_pid: Option<u32>,
}

/// A plan can't be carried out: the caller's mistake.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nothing would be done.
    #[error("{what} must be at least 1")]
    Zero {
        /// Connections, pipeline or threads.
        what: &'static str,
    },
    /// No time to measure.
    #[error("the duration must be longer than nothing")]
    NoTime,
    /// No time to wait for a reply.
    #[error("the timeout must be longer than nothing")]
    NoTimeout,
    /// A time that is too long to count.
    #[error("{what} is longer than 30 days: give a shorter one")]
    TooLong {
        /// Duration, warm-up, timeout or busy polling.
        what: &'static str,
    },
    /// No number of requests a second.
    #[error("a rate of {rate} requests a second cannot be kept: give a number above 0, up to 1e9")]
    Rate {
        /// The rate.
        rate: f64,
    },
    /// The body fits no frame.
    #[error(
        "a body of {body_bytes} bytes fits no frame: at most {} do",
        FRAME_BYTES_MAX - HEADER_BYTES
    )]
    BodyTooLong {
        /// The body.
        body_bytes: usize,
    },
    /// PING has no body.
    #[error("a PING (code 0) has no body: leave the body's size out, or make it 0")]
    PingWithBody,
    /// The requests take too much memory.
    #[error(
        "the requests would take {} MiB of memory, more than {} MiB: ask for fewer connections, a \
         shorter pipeline or shorter bodies",
        bytes >> 20,
        REQUESTS_BYTES_MAX >> 20
    )]
    TooMuchMemory {
        /// Bytes that they would take.
        bytes: usize,
    },
}

const TIME_MAX: Duration = Duration::from_hours(30 * 24);

impl Plan {
    /// Requests to this server as [`Plan`]'s fields have it by default: 64 connections, a pipeline
    /// of 1, a closed loop of ECHO with 32-byte bodies, measured for 10 s after 1 s of warm-up, with
    /// a timeout of 5 s, by one thread that is not pinned and sleeps while it waits.
    pub fn new(address: SocketAddr) -> Plan {
        Plan {
            address,
            connections: 64,
            pipeline: 1,
            rate: None,
            body_bytes: 32,
            code: codes::ECHO,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            threads: 1,
            cpus: Vec::new(),
            busy_poll: Duration::ZERO,
            server_pid: None,
        }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// The first thing in it that does not.
    pub fn check(&self) -> Result<(), PlanError> {
        let counts = [
            ("the number of connections", self.connections),
            ("the pipeline", self.pipeline),
            ("the number of threads", self.threads),
        ];
        if let Some((what, _)) = counts.into_iter().find(|&(_, count)| count == 0) {
            return Err(PlanError::Zero { what });
        }
        if self.duration.is_zero() {
            return Err(PlanError::NoTime);
        }
        if self.timeout.is_zero() {
            return Err(PlanError::NoTimeout);
        }
        let times = [
            ("the duration", self.duration),
            ("the warm-up", self.warmup),
            ("the timeout", self.timeout),
            ("the time of busy polling", self.busy_poll),
        ];
        if let Some((what, _)) = times.into_iter().find(|&(_, time)| time > TIME_MAX) {
            return Err(PlanError::TooLong { what });
        }
        if let Some(rate) = self.rate.filter(|rate| !(*rate > 0.0 && *rate <= 1e9)) {
            return Err(PlanError::Rate { rate });
        }
        self.check_body()
    }

    fn check_body(&self) -> Result<(), PlanError> {
        let body_bytes = self.body_bytes;
        if body_bytes > FRAME_BYTES_MAX - HEADER_BYTES {
            return Err(PlanError::BodyTooLong { body_bytes });
        }
        if self.code == codes::PING && body_bytes > 0 {
            return Err(PlanError::PingWithBody);
        }
        // Four times: what the window, at least twice as long and then a power of two, stays below.
        let bytes = self
            .pipeline
            .checked_mul(4)
            .map(|_| requests::window(self.pipeline, body_bytes))
            .and_then(|window| window.checked_mul(session::request_bytes(body_bytes)))
            .and_then(|bytes| bytes.checked_mul(self.connections))
            .unwrap_or(usize::MAX);
        if bytes > REQUESTS_BYTES_MAX {
            return Err(PlanError::TooMuchMemory { bytes });
        }
        Ok(())
    }

    /// Threads that have something to do.
    pub(super) fn threads_used(&self) -> usize {
        self.threads.min(self.connections)
    }

    pub(super) fn shape(&self) -> Shape {
        Shape {
            code: self.code,
            body_bytes: self.body_bytes,
            pipeline: self.pipeline,
            timeout_ns: ns(self.timeout),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            address: self.address.to_string(),
            code: self.code,
            connections: self.connections,
            pipeline: self.pipeline,
            rate: self.rate,
            body_bytes: self.body_bytes,
            duration_seconds: self.duration.as_secs_f64(),
            warmup_seconds: self.warmup.as_secs_f64(),
            timeout_seconds: self.timeout.as_secs_f64(),
            threads: self.threads_used(),
            cpus: self.cpus.clone(),
            busy_poll_seconds: self.busy_poll.as_secs_f64(),
        }
    }
}

/// Nanoseconds of a time that the plan allows: 30 days are far below 2^64 of them.
pub(super) fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(change: impl FnOnce(&mut Plan)) -> Plan {
        let mut plan = Plan::new(SocketAddr::from(([127, 0, 0, 1], 8700)));
        change(&mut plan);
        plan
    }

    #[track_caller]
    fn told(change: impl FnOnce(&mut Plan), sentence: &str) {
        assert_eq!(plan(change).check().unwrap_err().to_string(), sentence);
    }

    #[test]
    fn what_makes_sense_passes() {
        for change in [
            |_: &mut Plan| {},
            |plan: &mut Plan| plan.rate = Some(0.5),
            |plan: &mut Plan| plan.body_bytes = 65_527,
            |plan: &mut Plan| (plan.code, plan.body_bytes) = (0, 0),
            |plan: &mut Plan| plan.warmup = Duration::ZERO,
        ] {
            plan(change).check().unwrap();
        }
    }

    #[test]
    fn what_makes_none_is_told() {
        told(
            |plan| plan.connections = 0,
            "the number of connections must be at least 1",
        );
        told(|plan| plan.pipeline = 0, "the pipeline must be at least 1");
        told(
            |plan| plan.duration = Duration::ZERO,
            "the duration must be longer than nothing",
        );
        told(
            |plan| plan.timeout = Duration::ZERO,
            "the timeout must be longer than nothing",
        );
        told(
            |plan| plan.timeout = Duration::MAX,
            "the timeout is longer than 30 days: give a shorter one",
        );
        told(
            |plan| plan.busy_poll = Duration::MAX,
            "the time of busy polling is longer than 30 days: give a shorter one",
        );
        told(
            |plan| plan.body_bytes = 65_528,
            "a body of 65528 bytes fits no frame: at most 65527 do",
        );
        told(
            |plan| plan.code = 0,
            "a PING (code 0) has no body: leave the body's size out, or make it 0",
        );
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = plan(|plan| plan.rate = Some(rate)).check().unwrap_err();
            assert!(error.to_string().contains("cannot be kept"));
        }
    }

    #[test]
    fn requests_that_take_too_much_memory_are_told() {
        let error = plan(|plan| (plan.connections, plan.body_bytes) = (20_000, 29_000)).check();
        assert!(matches!(error, Err(PlanError::TooMuchMemory { .. })));
        for pipeline in [usize::MAX, usize::MAX / 2, usize::MAX / 8] {
            let error = plan(|plan| plan.pipeline = pipeline).check();
            assert!(matches!(error, Err(PlanError::TooMuchMemory { .. })));
        }
    }
}
