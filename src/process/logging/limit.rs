//! A limit on repeated events: the layer in front of the lines that lets each kind of event
//! through so often and counts what it leaves out. A kind is a place in the program.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata};

use super::losses;
use super::repeats::{Rate, Repeats, Verdict};

/// Bytes of a message that stand for its kind.
const EXAMPLE_BYTES_MAX: usize = 100;

/// Figures come by a clock of their own, `log.stats_seconds`.
const TARGET_OF_FIGURES: &str = "corelane::admin::figures";

/// The limit of all kinds.
#[derive(Debug)]
pub(super) struct Limit(RwLock<Kinds>);

#[derive(Debug)]
struct Kinds {
    rate: Option<Rate>,
    /// Those that have come so far: no more than the program has places.
    by_place: HashMap<Identifier, Kind>,
}

#[derive(Debug)]
struct Kind {
    module: &'static str,
    repeats: Repeats,
    /// The message of the first one.
    example: String,
}

impl Limit {
    /// `None` lets everything through.
    pub(super) fn new(rate: Option<Rate>) -> Limit {
        Limit(RwLock::new(Kinds {
            rate,
            by_place: HashMap::new(),
        }))
    }

    /// From now on, this is the rate.
    pub(super) fn set_rate(&self, rate: Option<Rate>) {
        let mut kinds = self.write();
        kinds.rate = rate;
        // What was used up under another rate means something else by this one.
        for kind in kinds.by_place.values() {
            kind.repeats.begin_anew();
        }
    }

    /// Judges an event that comes now.
    pub(super) fn judge(&self, event: &Event<'_>, now_ns: u64) -> Verdict {
        let metadata = event.metadata();
        let kinds = self.read();
        let Some(rate) = kinds.rate.filter(|_| is_limited(metadata)) else {
            return Verdict::Logged;
        };
        let place = metadata.callsite();
        if let Some(kind) = kinds.by_place.get(&place) {
            return kind.repeats.judge(rate, now_ns);
        }
        drop(kinds);
        // Before the lock: what is formatted may log in its turn.
        let kind = Kind::of(event);
        let mut kinds = self.write();
        let kind = kinds.by_place.entry(place).or_insert(kind);
        kind.repeats.judge(rate, now_ns)
    }

    /// Logs how many of each kind were left out since this was last called.
    pub(super) fn tell(&self) {
        let mut told = Vec::new();
        for kind in self.read().by_place.values() {
            let left_out = kind.repeats.take_left_out();
            if left_out > 0 {
                told.push((left_out, kind.module, kind.example.clone()));
            }
        }
        // After the lock, which a line takes itself on its way.
        for (left_out, module, example) in told {
            losses::tell_left_out(left_out, module, &example);
        }
    }

    // Nothing is half done where a thread has panicked: kinds are added whole.

    fn read(&self) -> RwLockReadGuard<'_, Kinds> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Kinds> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kind {
    fn of(event: &Event<'_>) -> Kind {
        let mut example = Example(String::new());
        event.record(&mut example);
        let end = example.0.floor_char_boundary(EXAMPLE_BYTES_MAX);
        example.0.truncate(end);
        Kind {
            module: event.metadata().target(),
            repeats: Repeats::default(),
            example: example.0,
        }
    }
}

fn is_limited(metadata: &Metadata<'_>) -> bool {
    !losses::is_of_losses(metadata) && metadata.target() != TARGET_OF_FIGURES
}

/// The message among an event's fields.
struct Example(String);

impl Visit for Example {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
