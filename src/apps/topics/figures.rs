//! What the topics of a shard come to: counts, and the metrics that are made of them.

use std::cell::Cell;

use super::Topics;
use super::refusal::{Full, Refused};
use crate::handler::Router;
use crate::metrics::own::Metric;

/// How much there is on one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figures {
    /// Subscriptions of its connections.
    pub subscriptions: usize,
    /// Its connections that have any.
    pub subscribers: usize,
    /// Topics that have subscribers here or on another shard.
    pub topics: usize,
    /// Topics that have subscribers here.
    pub subscribed: usize,
    /// Other shards that were not told, or have not answered, all there is to tell.
    pub unsettled: usize,
    /// Events that wait for other shards or are under way; one for several counts for each.
    pub waiting_events: usize,
    /// Bytes of those: topics and payloads.
    pub waiting_bytes: usize,
    /// PUBLISHes that were carried out here, since the start.
    pub published: u64,
    /// Events that were queued for connections here, since the start.
    pub delivered: u64,
}

/// What was counted on one shard since the start.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) published: Count,
    pub(super) delivered: Count,
    unpublished: [Count; Full::ALL.len()],
    unsubscribed: [Count; Refused::REASONS.len()],
}

/// A plain number that one thread writes and reads.
#[derive(Debug, Default)]
pub(super) struct Count(Cell<u64>);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.set(self.0.get() + more);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Counts {
    /// A PUBLISH was refused.
    pub(super) fn count_unpublished(&self, full: Full) {
        self.unpublished[full as usize].add(1);
    }

    /// A SUBSCRIBE was refused.
    pub(super) fn count_unsubscribed(&self, refused: Refused) {
        self.unsubscribed[refused.reason()].add(1);
    }
}

const TOPICS: Metric = Metric::gauge(
    "corelane_topics_known",
    "Topics with subscribers on the shard or, as it was told, on another one.",
);
const SUBSCRIBED: Metric = Metric::gauge(
    "corelane_topics_subscribed",
    "Topics with subscribers on the shard; topics.distinct_per_shard limits them.",
);
const SUBSCRIPTIONS: Metric = Metric::gauge(
    "corelane_topics_subscriptions",
    "Subscriptions of the shard's connections; topics.per_shard limits them.",
);
const SUBSCRIBERS: Metric = Metric::gauge(
    "corelane_topics_subscribers",
    "Connections of the shard that have subscriptions.",
);
const UNSUBSCRIBED: Metric = Metric::counter(
    "corelane_topics_subscribes_refused_total",
    "SUBSCRIBEs that were refused, by the limit of [topics], or because too much waited to be told to \
     other shards.",
);
const PUBLISHED: Metric = Metric::counter(
    "corelane_topics_publishes_total",
    "PUBLISHes that were carried out, by the shard of the publisher.",
);
const UNPUBLISHED: Metric = Metric::counter(
    "corelane_topics_publishes_refused_total",
    "PUBLISHes that were answered with OVERLOADED: too much waited for another shard, or the shard held \
     as much memory as it may.",
);
const DELIVERED: Metric = Metric::counter(
    "corelane_topics_events_queued_total",
    "EVENTs that were queued for connections of the shard.",
);
const WAITING_EVENTS: Metric = Metric::gauge(
    "corelane_topics_link_events",
    "Events that wait for other shards; one for several shards counts for each.",
);
const WAITING_BYTES: Metric = Metric::gauge(
    "corelane_topics_link_bytes",
    "Bytes of events that wait for other shards; one for several shards counts for each.",
);
const UNSETTLED: Metric = Metric::gauge(
    "corelane_topics_links_unsettled",
    "Other shards that were not told, or have not answered, all there is to tell.",
);

/// Has the figures of topics shown among the server's metrics.
pub(super) fn show<S>(router: &mut Router<S>)
where
    S: AsRef<Topics<S>> + 'static,
{
    for (metric, read) in [
        (TOPICS, (|figures| figures.topics) as fn(Figures) -> usize),
        (SUBSCRIBED, |figures| figures.subscribed),
        (SUBSCRIPTIONS, |figures| figures.subscriptions),
        (SUBSCRIBERS, |figures| figures.subscribers),
        (WAITING_EVENTS, |figures| figures.waiting_events),
        (WAITING_BYTES, |figures| figures.waiting_bytes),
        (UNSETTLED, |figures| figures.unsettled),
    ] {
        let read = move |state: &S| read(state.as_ref().figures());
        router.metric(metric.shipped().of_shard(read));
    }
    let published = |state: &S| state.as_ref().0.counts.published.get();
    router.metric(PUBLISHED.shipped().of_shard(published));
    let delivered = |state: &S| state.as_ref().0.counts.delivered.get();
    router.metric(DELIVERED.shipped().of_shard(delivered));
    let unpublished = |state: &S| {
        state
            .as_ref()
            .0
            .counts
            .unpublished
            .each_ref()
            .map(Count::get)
    };
    let reasons = Full::ALL.map(Full::name);
    let refused = UNPUBLISHED.shipped().by("reason", reasons);
    router.metric(refused.of_shard(unpublished));
    let unsubscribed = |state: &S| {
        state
            .as_ref()
            .0
            .counts
            .unsubscribed
            .each_ref()
            .map(Count::get)
    };
    let refused = UNSUBSCRIBED.shipped().by("reason", Refused::REASONS);
    router.metric(refused.of_shard(unsubscribed));
}
