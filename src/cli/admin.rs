//! The server for operators, as the companion of a server's control thread.

use std::net::TcpListener;

use corelane::ServerHandle;
use corelane::process::control::Companion;

/// Serves operators on this socket.
pub(super) fn companion(_handle: ServerHandle, _admin: TcpListener) -> Companion {
    Box::new(|mut stage| Box::pin(async move { while stage.changed().await.is_ok() {} }))
}
