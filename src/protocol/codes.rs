//! The message codes that the protocol itself defines. Codes from [`APPLICATION`] on are the
//! application's own.

/// Request and reply without a body; counts as the heartbeat.
pub const PING: u16 = 0;
/// Request and reply with any body; the reply carries the same bytes.
pub const ECHO: u16 = 1;
/// Server to client: a request failed. The body is an [`ErrorBody`](super::ErrorBody).
pub const ERROR: u16 = 2;
/// Server to client: it is draining, and closes the connection after so many milliseconds, a `u32`.
pub const GOAWAY: u16 = 3;
/// The first code that belongs to the application.
pub const APPLICATION: u16 = 1000;
