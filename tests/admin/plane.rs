//! An admin server on a runtime and a thread of its own.

use std::net::{SocketAddr, TcpListener};
use std::thread::{Builder, JoinHandle};

use corelane::admin::{Plane, PlaneHandle};
use corelane::{Server, ServerHandle};
use tokio::runtime;

/// Retires when it is dropped.
pub(crate) struct Admin {
    pub(crate) address: SocketAddr,
    pub(crate) handle: PlaneHandle,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    pub(crate) fn of(server: &Server) -> Admin {
        Admin::of_handle(server.handle())
    }

    pub(crate) fn of_handle(handle: ServerHandle) -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plane = Plane::new(handle, listener).unwrap();
        let handle = plane.handle();
        let run = move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(plane.run()).unwrap();
        };
        let thread = Builder::new().name("control".to_owned()).spawn(run);
        Admin {
            address,
            handle,
            thread: Some(thread.unwrap()),
        }
    }

    /// Waits until it has ended, which it was told to.
    pub(crate) fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.handle.retire();
        if let Some(thread) = self.thread.take() {
            // A test that has failed already is told as it is.
            let ended = thread.join();
            assert!(std::thread::panicking() || ended.is_ok());
        }
    }
}
