//! The way of small messages that come in numbers: one behind the other, of one code, for a
//! synchronous handler.
//!
//! It does for each what `dispatch` does for any message, and leaves out what can't be due. So what is
//! needed fits the registers.

use std::cell::Cell;

use super::share::Share;
use crate::handler::{Exchange, SyncHandler};
use crate::protocol::{Checked, HEADER_BYTES};

/// What the messages of a streak have in common.
pub(super) struct Streak<'a, S> {
    pub(super) handler: &'a SyncHandler<S>,
    pub(super) state: &'a S,
    /// Says the code, too.
    pub(super) exchange: &'a mut Exchange,
    pub(super) progress: &'a Progress,
    /// From so many bytes of replies on, no more is handled.
    pub(super) queue_bytes_max: usize,
}

/// How far the frames of a slice are handled. It outlives a panic.
pub(super) struct Progress {
    /// So many are taken, that which is being handled included.
    pub(super) frames_taken: Cell<u64>,
    /// Where its reply begins.
    pub(super) reply_start: Cell<usize>,
    /// So many replies of a streak are not counted yet.
    pub(super) uncounted: Cell<u32>,
}

/// How a streak ended. Its replies are still to be counted.
pub(super) struct Streaked<'f> {
    pub(super) left: Checked<'f>,
    pub(super) share: Share,
    /// What the last handler has returned is still to be looked at.
    pub(super) is_answered: bool,
}

impl<S> Streak<'_, S> {
    /// Handles frames as long as it goes on like that.
    // What changes is in variables of its own: arguments of that size would be in memory.
    #[inline(never)]
    pub(super) fn handle(self, frames: Checked<'_>, share: Share) -> Streaked<'_> {
        let code = self.exchange.code;
        let (mut left, mut share) = (frames, share);
        let mut is_answered = true;
        while is_answered && left.code() == Some(code) {
            let reply_start = self.exchange.out.len();
            if reply_start >= self.queue_bytes_max || share.is_spent() {
                break;
            }
            let Some(frame) = left.take() else {
                break;
            };
            share.take(HEADER_BYTES + frame.body.len());
            self.progress.begin(reply_start);
            is_answered = (self.handler)(self.state, self.exchange, frame.body);
            self.progress
                .uncounted
                .update(|count| count + u32::from(is_answered));
        }
        Streaked {
            left,
            share,
            is_answered,
        }
    }
}

impl Progress {
    /// A frame is about to be handled, whose reply begins there.
    #[inline]
    fn begin(&self, reply_start: usize) {
        self.frames_taken.update(|count| count + 1);
        self.reply_start.set(reply_start);
    }
}
