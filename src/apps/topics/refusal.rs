//! Why a SUBSCRIBE or a PUBLISH is refused, for people and for metrics.

/// A subscription was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error(
        "this connection has {0} subscriptions already, as many as topics.per_connection allows: \
         unsubscribe from another topic first"
    )]
    Connection(u32),
    #[error(
        "this shard has {0} subscriptions already, as many as topics.per_shard allows: try again \
         later, or over another connection"
    )]
    Shard(u32),
    #[error(
        "this shard has {0} different topics already, as many as topics.distinct_per_shard allows: \
         try again later, or over another connection"
    )]
    Distinct(u32),
    #[error("too much waits to be told to other shards: subscribe again later")]
    Overloaded,
}

impl Refused {
    /// Why, for metrics.
    pub(super) const REASONS: [&str; 4] = [
        "per_connection",
        "per_shard",
        "distinct_per_shard",
        "overloaded",
    ];

    /// Which of the reasons it is.
    pub(super) fn reason(self) -> usize {
        match self {
            Refused::Connection(_) => 0,
            Refused::Shard(_) => 1,
            Refused::Distinct(_) => 2,
            Refused::Overloaded => 3,
        }
    }
}

/// An event was not taken on for any other shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("too many events wait for other shards: publish it again later")]
    Link,
    #[error("this shard holds as much as limits.memory_bytes allows: publish it again later")]
    Memory,
}

impl Full {
    pub(super) const ALL: [Full; 2] = [Full::Link, Full::Memory];

    /// Its name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Full::Link => "link",
            Full::Memory => "memory",
        }
    }
}
