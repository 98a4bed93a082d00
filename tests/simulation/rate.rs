//! How fast frames may come: a flood limit once more, in fractions that are exact.

/// A flood limit, as it is configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) frames_per_second: u32,
    pub(crate) burst: u32,
}

/// The bucket of tokens that a flood limit means, in fractions that are exact.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Those that have been taken out and are not back, in millionths.
    missing: u64,
    at_us: u64,
}

impl Bucket {
    /// Whether a frame at this time finds a token.
    pub(crate) fn has_token(&self, rate: Rate, now_us: u64) -> bool {
        let millionths = u64::from(rate.burst) * 1_000_000;
        self.missing_at(rate, now_us) + 1_000_000 <= millionths
    }

    pub(crate) fn take(&mut self, rate: Rate, now_us: u64) {
        self.missing = self.missing_at(rate, now_us) + 1_000_000;
        self.at_us = now_us;
    }

    fn missing_at(&self, rate: Rate, now_us: u64) -> u64 {
        let back = (now_us - self.at_us) * u64::from(rate.frames_per_second);
        self.missing.saturating_sub(back)
    }
}

/// A bucket that also fills beyond its brim, from one frame to the next: frames which had to wait may
/// have come at any time since then.
#[derive(Debug, Default)]
pub(crate) struct PatientBucket {
    /// In millionths of a token; what is there beyond the brim is negative.
    missing: i64,
    missing_min: i64,
    at_us: u64,
}

impl PatientBucket {
    /// Takes a token out. Gives back whether there was one.
    pub(crate) fn take(&mut self, rate: Rate, now_us: u64) -> bool {
        if now_us > self.at_us {
            let back = (now_us - self.at_us) * u64::from(rate.frames_per_second);
            let back = back.cast_signed();
            self.missing_min = -back;
            self.missing = (self.missing - back).max(self.missing_min);
            self.at_us = now_us;
        }
        self.missing += 1_000_000;
        self.missing <= i64::from(rate.burst) * 1_000_000
    }
}
