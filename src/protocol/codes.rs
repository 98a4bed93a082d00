//! The message codes that the protocol itself defines. Codes from [`APPLICATION`] on are the
//! application's own. Their bodies are declared in [`messages`](super::messages).

/// Request and reply without a body; counts as the heartbeat.
pub const PING: u16 = 0;
/// Request and reply with any body; the reply carries the same bytes.
pub const ECHO: u16 = 1;
/// Server to client: a request failed. The body is an [`ErrorBody`](super::ErrorBody).
pub const ERROR: u16 = 2;
/// Server to client: it is draining, and closes the connection after so many milliseconds, a `u32`.
pub const GOAWAY: u16 = 3;
/// Request and reply: a new account.
pub const REGISTER: u16 = 5;
/// Request and reply: who is at the other end of the connection.
pub const LOGIN: u16 = 6;
/// Request and reply: events of a topic are wanted from now on.
pub const SUBSCRIBE: u16 = 7;
/// Request and reply: events of a topic are wanted no more.
pub const UNSUBSCRIBE: u16 = 8;
/// Request and reply: an event for all who have subscribed to its topic.
pub const PUBLISH: u16 = 9;
/// Server to client: what somebody has published to a topic of the client's.
pub const EVENT: u16 = 10;
/// The first code that belongs to the application.
pub const APPLICATION: u16 = 1000;

/// The protocol's name of a code, if it has one.
pub fn name(code: u16) -> Option<&'static str> {
    Some(match code {
        PING => "PING",
        ECHO => "ECHO",
        ERROR => "ERROR",
        GOAWAY => "GOAWAY",
        REGISTER => "REGISTER",
        LOGIN => "LOGIN",
        SUBSCRIBE => "SUBSCRIBE",
        UNSUBSCRIBE => "UNSUBSCRIBE",
        PUBLISH => "PUBLISH",
        EVENT => "EVENT",
        _ => return None,
    })
}
