//! The places of connections: there are so many, and each is held for a while. When all are taken and
//! somebody waits, the connection that has been quiet longest is asked to leave, as nginx does it;
//! one whose request is under way never is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::activity::Activity;
use crate::sys::host::FILES_OF_OPERATORS;

/// Connections at once; one more is accepted and waits, and further ones wait in the backlog.
pub(super) const PLACES: u32 = 64;

// What the process needs of open files has them in it, and one that waits.
const _: () = assert!(PLACES as u64 + 1 == FILES_OF_OPERATORS);

/// A place is taken for so long at least, however short the connection is: it bounds how many come
/// in a second. Nobody is asked to leave sooner.
const PLACE_MIN: Duration = Duration::from_millis(100);

/// All places of a server.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<Vec<Arc<Activity>>>,
}

impl Places {
    pub(super) fn new() -> Arc<Places> {
        Arc::new(Places {
            free: Arc::new(Semaphore::new(PLACES as usize)),
            taken: Mutex::default(),
        })
    }

    /// Waits for a place, and makes somebody leave if there is none. `None` would be for ever.
    pub(super) async fn find(self: &Arc<Self>) -> Option<Place> {
        loop {
            if let Some(place) = self.find_now() {
                return Some(place);
            }
            self.ask_one_to_leave(Instant::now());
            // If nobody could be asked, somebody may be quiet a moment later.
            let free = Arc::clone(&self.free).acquire_owned();
            if let Ok(permit) = timeout(PLACE_MIN, free).await {
                return permit.ok().map(|permit| self.place(permit));
            }
        }
    }

    /// A place, if one is free.
    pub(super) fn find_now(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(self.place(permit))
    }

    /// Waits until nobody has a place.
    pub(super) async fn all_free(&self) {
        let all = self.free.acquire_many(PLACES).await;
        debug_assert!(all.is_ok(), "the semaphore is never closed");
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        let activity = Arc::new(Activity::new());
        self.taken().push(Arc::clone(&activity));
        Place {
            activity,
            free_at: Instant::now() + PLACE_MIN,
            places: Arc::clone(self),
            _permit: permit,
        }
    }

    fn ask_one_to_leave(&self, now: Instant) {
        let taken = self.taken();
        let quiet = taken.iter().filter_map(|activity| {
            Some((activity.quiet_since(now.checked_sub(PLACE_MIN)?)?, activity))
        });
        if let Some((_, longest)) = quiet.min_by_key(|(since, _)| *since) {
            longest.ask_to_leave();
        }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Arc<Activity>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) activity: Arc<Activity>,
    free_at: Instant,
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Gives it up, when it has been taken for long enough.
    pub(super) async fn leave(self) {
        sleep_until(self.free_at).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.retain(|activity| !Arc::ptr_eq(activity, &self.activity));
    }
}
