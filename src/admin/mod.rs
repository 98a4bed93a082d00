//! The admin server: what people and programs see of a running server, over HTTP.
//!
//! It runs on the control plane's thread, never on a shard's. What is asked of the shards is bounded
//! however hard it is hit: they are asked four times a second at most, and requests and connections
//! have limits of their own. It only shows; nothing can be changed through it.
//!
//! | path | answer |
//! |---|---|
//! | `/` | the dashboard |
//! | `/metrics` | Prometheus' text format |
//! | `/healthz` | 200 while the process lives |
//! | `/readyz` | 200 while the server accepts connections, 503 while it starts or drains |
//! | `/status` | JSON: what the dashboard shows |
//! | `/latency` | JSON: latencies by message code, since the start |
//! | `/latency.hgrm` | HdrHistogram's percentile text of the whole server, in microseconds |
//! | `/connections?limit=N` | JSON: the connections with most bytes queued |
//! | `/config` | JSON: the configuration in force, secrets left out |
//!
//! ```no_run
//! use std::net::TcpListener;
//!
//! use corelane::admin::Plane;
//! use corelane::{Config, Server, apps};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:8701")?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! let builder = Server::builder(Config::default()).handler(1, apps::echo);
//! // Before the shards are up, so that /readyz is answered while they come. Where that does not
//! // matter, `start` and `Plane::new(server.handle(), listener)` after it do.
//! let (server, admin) = builder.start_with(|handle| {
//!     let plane = Plane::new(handle, listener)?;
//!     let admin = plane.handle();
//!     let thread = std::thread::spawn(move || runtime.block_on(plane.run()));
//!     std::io::Result::Ok((admin, thread))
//! })?;
//! let (admin, thread) = admin?;
//! server.wait()?;
//! admin.retire();
//! thread.join().map_err(|_| "the admin server panicked")??;
//! # Ok(())
//! # }
//! ```

mod bucket;
mod collector;
mod exposition;
mod figures;
mod http;
mod json;
mod percentiles;
mod totals;
mod vitals;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use self::http::Site;
use crate::process::handle::ServerHandle;

/// The admin server of one server.
#[derive(Debug)]
pub struct Plane {
    listener: Option<TcpListener>,
    site: Arc<Site>,
    control: PlaneHandle,
}

/// Tells an admin server what it can't see by itself, from wherever. It can be cloned.
#[derive(Clone, Debug)]
pub struct PlaneHandle {
    is_draining: Arc<AtomicBool>,
    retired: Arc<watch::Sender<bool>>,
}

impl PlaneHandle {
    fn new() -> PlaneHandle {
        PlaneHandle {
            is_draining: Arc::default(),
            retired: Arc::new(watch::Sender::new(false)),
        }
    }

    /// From now on, /readyz says that the server drains. It does so by itself from the moment that
    /// the [`ServerHandle`] is told to drain or stop; this is for who wants it to be known earlier.
    pub fn set_draining(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Has the admin server accept nobody any more, answer who has connected, and end. Who has not
    /// asked yet may do so for a second.
    pub fn retire(&self) {
        self.retired.send_replace(true);
    }
}

impl Plane {
    /// For the server with this handle, which serves or starts, on this socket, which listens.
    ///
    /// # Errors
    ///
    /// What the operating system says against the socket.
    pub fn new(handle: ServerHandle, listener: TcpListener) -> io::Result<Plane> {
        listener.set_nonblocking(true)?;
        Ok(Plane {
            listener: Some(listener),
            ..Plane::without_http(handle)
        })
    }

    /// One that shows nothing over HTTP, and only logs the line of figures.
    pub fn without_http(handle: ServerHandle) -> Plane {
        let control = PlaneHandle::new();
        Plane {
            listener: None,
            site: Arc::new(Site::new(handle, control.clone())),
            control,
        }
    }

    /// A handle to it.
    pub fn handle(&self) -> PlaneHandle {
        self.control.clone()
    }

    /// Serves, and logs the line of figures every `log.stats_seconds`, until it is told to [retire](PlaneHandle::retire). Made for a tokio runtime of one
    /// thread, with I/O and time.
    ///
    /// # Errors
    ///
    /// What the operating system says against the socket, at the start.
    pub async fn run(self) -> io::Result<()> {
        let mut retired = self.control.retired.subscribe();
        let Some(listener) = self.listener else {
            return tokio::select! {
                // It is told by the end of whoever could tell, too.
                _ = retired.wait_for(|retired| *retired) => Ok(()),
                never = figures::log(&self.site) => match never {},
            };
        };
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::select! {
            () = http::serve(listener, Arc::clone(&self.site), retired) => Ok(()),
            never = http::keep_history(&self.site) => match never {},
            never = figures::log(&self.site) => match never {},
        }
    }
}
