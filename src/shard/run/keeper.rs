//! What has the executor go round when it would sleep for good.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::Timer;

/// How often the executor goes round, whatever there is to do, in microseconds. As long as glommio's
/// preemption timer runs, which is what has it sleep although there are tasks to run.
const ROUND_US: u64 = 100_000;

/// Timers at once, each of which takes twice as long as the one before: the last one ten days.
const TIMERS: u32 = 24;

/// Does nothing, again and again, so that a timer is always set which has not lapsed.
///
/// One timer would not do. It lapses in the very round of the executor in which the shard is woken, if
/// the host has kept the core for long before; if it keeps it once more before either task has run, the
/// executor sleeps with no timer set. Of these there is one left that lapses after another such time
/// at most.
pub(super) async fn keep_awake() {
    loop {
        let mut timers: Vec<Timer> = (0..TIMERS)
            .map(|number| Timer::new(Duration::from_micros(ROUND_US << number)))
            .collect();
        let mut are_set = false;
        poll_fn(|cx| {
            if are_set {
                return Poll::Ready(());
            }
            are_set = true;
            for timer in &mut timers {
                if Pin::new(timer).poll(cx).is_ready() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        })
        .await;
    }
}
