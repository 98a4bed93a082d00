//! Events for which there is no room on their own shard, without a server.

use std::rc::Rc;
use std::time::Duration;

use glommio::LocalExecutor;

use super::super::Topics;
use crate::config;
use crate::handler::{ConnectionId, Desk, Local};

struct State {
    topics: Topics<State>,
}

impl AsRef<Topics<State>> for State {
    fn as_ref(&self) -> &Topics<State> {
        &self.topics
    }
}

fn id(slot: u32) -> ConnectionId {
    ConnectionId {
        shard: 0,
        slot,
        generation: 0,
    }
}

/// Who waits at the desk keeps it, and the state with it.
#[test]
fn a_shard_that_ends_leaves_nobody_behind_who_waits_for_room() {
    let topics = LocalExecutor::default().run(async {
        let desk = Desk::new(0, 1, 29_000);
        let local = Local::new(Rc::clone(&desk));
        let topics = Topics::<State>::new(local.clone(), config::Topics::default());
        for slot in 0..2 {
            assert!(topics.subscribe(id(slot), "news").unwrap().is_none());
        }
        while local.push(id(2), 1, b"").is_ok() {}
        desk.take().unwrap();
        assert_eq!(topics.queue("news", b"an event"), Some(2));
        // The task comes to wait.
        glommio::timer::sleep(Duration::from_millis(5)).await;
        desk.forget_waiting();
        Rc::downgrade(&topics.0)
    });
    assert_eq!(topics.strong_count(), 0);
}

/// Each event that found room for a part of its receivers left one more task behind, and all of
/// them tried again and again until none was unfinished.
#[test]
fn one_task_sees_to_what_found_no_room_however_often_that_happens() {
    LocalExecutor::default().run(async {
        let desk = Desk::new(0, 1, 29_000);
        let local = Local::new(Rc::clone(&desk));
        let topics = Topics::<State>::new(local.clone(), config::Topics::default());
        for slot in 0..2 {
            assert!(topics.subscribe(id(slot), "news").unwrap().is_none());
        }
        let without_tasks = Rc::strong_count(&topics.0);
        while local.push(id(2), 1, b"").is_ok() {}
        // Room for one receiver at first, then for the one that is left and one more.
        for room in [1, 2, 2, 2] {
            for _ in 0..room {
                desk.take().unwrap();
            }
            assert_eq!(topics.queue("news", b"an event"), Some(2));
            assert!(topics.0.unfinished.borrow().is_some());
        }
        assert_eq!(Rc::strong_count(&topics.0), without_tasks + 1);
        assert_eq!(topics.queue("news", b"an event"), None);

        // Nobody tries in vain before there is room.
        desk.take_refused();
        glommio::timer::sleep(Duration::from_millis(20)).await;
        assert_eq!(desk.take_refused(), 0);

        while desk.take().is_some() {}
        glommio::timer::sleep(Duration::from_millis(50)).await;
        assert!(topics.0.unfinished.borrow().is_none());
        assert_eq!(Rc::strong_count(&topics.0), without_tasks);
        assert!(desk.take().is_some(), "the rest of the last one");
        assert!(desk.take().is_none());
    });
}
