//! Watches over the shards: sees which handler holds one up, also one that never comes back.
//!
//! A shard can't tell of a handler that holds it, so the control thread looks every
//! `handlers.slow_ms`. It leaves word of what it saw; a turn that was slow is then told by the shard
//! itself, which knows how long it took. What lasts for a second or more is told here.

use std::time::Duration;

use tokio::time::Instant;

use super::handle::ServerHandle;
use crate::shard::Suspect;

/// How long a shard is held before that is told while it lasts; then after twice as long, and so on.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// How often it is looked when no shard was seen at work for [`IDLE_AFTER`] looks.
const IDLE_LOOK: Duration = Duration::from_millis(100);
const IDLE_AFTER: u32 = 100;

/// With `handlers.slow_ms = 0`, stuck shards are still looked for.
const LOOK_MAX: Duration = Duration::from_millis(250);

/// One shard's turn, as long as it is the same one.
#[derive(Clone, Copy, Debug)]
struct Held {
    suspect: Suspect,
    since: Instant,
    told_at: Instant,
}

/// Never ends.
pub(super) async fn watch(handle: ServerHandle) {
    let mut held: Vec<Option<Held>> = vec![None; handle.shards()];
    let mut idle_looks = 0_u32;
    loop {
        let slow_ms = handle.slow_ms();
        let look = match slow_ms {
            0 => LOOK_MAX,
            slow_ms => Duration::from_millis(slow_ms.into()).min(LOOK_MAX),
        };
        let is_idle = idle_looks > IDLE_AFTER;
        tokio::time::sleep(if is_idle { look.max(IDLE_LOOK) } else { look }).await;
        idle_looks = idle_looks.saturating_add(1);
        for (shard, held) in held.iter_mut().enumerate() {
            let seen = handle.look_at(shard);
            if seen.is_some() {
                idle_looks = 0;
            }
            *held = seen.map(|suspect| note(shard, *held, suspect));
        }
    }
}

/// What is known of a shard that was seen at work, told if it is time.
fn note(shard: usize, before: Option<Held>, suspect: Suspect) -> Held {
    let now = Instant::now();
    match before {
        Some(mut held) if held.suspect.turn == suspect.turn => {
            if now >= held.told_at {
                let for_ms = u64::try_from((now - held.since).as_millis()).unwrap_or(u64::MAX);
                tracing::error!(
                    shard,
                    connection = %suspect.connection,
                    code = suspect.code,
                    for_ms,
                    "a handler holds its shard: nobody else there is served"
                );
                held.told_at = now + (now - held.since);
            }
            Held { suspect, ..held }
        }
        _ => Held {
            suspect,
            since: now,
            told_at: now + TOLD_AFTER,
        },
    }
}
