//! What one connection gets of a turn, so that one which pipelines without end can't starve the
//! others of its core.

use super::settings::Settings;

/// What is left to a connection of the turn with this number.
///
/// Frames and bytes are counted as one: a frame counts as its bytes, but not as less than its part
/// of all the bytes if the turn were full of frames. So neither can be exceeded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    turn: u32,
    frame_bytes_min: u32,
    bytes_left: usize,
}

impl Share {
    /// All that a connection gets of the turn behind this one.
    #[inline]
    pub(super) fn of_next_turn(self, settings: &Settings) -> Share {
        Share {
            turn: self.turn.wrapping_add(1),
            frame_bytes_min: settings.turn_frame_bytes_min(),
            bytes_left: settings.turn_bytes_max,
        }
    }

    /// What is left to it of a turn of which `all` is the whole share: that, if it is of another turn.
    #[inline]
    pub(super) fn left_of(self, all: Share) -> Share {
        if self.turn == all.turn { self } else { all }
    }

    /// Whether nothing is left. The frame that uses up the bytes may be longer than what was left.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        self.bytes_left == 0
    }

    /// Takes a frame of so many bytes away.
    #[inline]
    pub(super) fn take(&mut self, frame_bytes: usize) {
        let counted_bytes = frame_bytes.max(self.frame_bytes_min as usize);
        self.bytes_left = self.bytes_left.saturating_sub(counted_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn settings() -> Settings {
        Settings {
            turn_frames_max: 3,
            turn_bytes_max: 100,
            ..Settings::from(&Config::default())
        }
    }

    fn taken(share: &mut Share, frame_bytes: usize) -> u32 {
        let mut taken = 0;
        while !share.is_spent() {
            share.take(frame_bytes);
            taken += 1;
        }
        taken
    }

    #[test]
    fn frames_and_bytes_are_both_bounded() {
        let share = Share::default().of_next_turn(&settings());
        assert_eq!(taken(&mut share.clone(), 8), 3);
        assert_eq!(taken(&mut share.clone(), 33), 3);
        assert_eq!(taken(&mut share.clone(), 50), 2);
        assert_eq!(taken(&mut share.clone(), 5_000), 1, "one always");
    }

    #[test]
    fn a_share_is_of_one_turn() {
        let all = Share::default().of_next_turn(&settings());
        let mut share = Share::default().left_of(all);
        taken(&mut share, 8);
        assert!(share.left_of(all).is_spent());
        assert!(!share.left_of(all.of_next_turn(&settings())).is_spent());
    }
}
