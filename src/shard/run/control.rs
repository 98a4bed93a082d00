//! What other threads can tell a shard: to go down, to go by another configuration, to show how it
//! is, and to do what another shard could want done.
//!
//! The shard looks at two flags on its way; everything else happens only when one of them is set.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, mpsc};

use crate::config::Config;
use crate::metrics::latency::Latencies;
use crate::shard::settings::Settings;
use crate::shard::{Message, Pulse, Snapshot};

use crate::shard::mailbox::{Refused, Room, Rooms};
use crate::sys::Doorbell;

/// What can be told to a shard.
#[derive(Debug)]
pub(crate) struct Control {
    /// The greatest that was asked for.
    request: AtomicU8,
    /// The shard could accept connections.
    is_up: AtomicBool,
    /// Something has been put into `orders` that was not taken.
    has_orders: AtomicBool,
    orders: mpsc::Sender<Order>,
    rooms: Arc<Rooms>,
    pub(super) doorbell: Doorbell,
    pub(super) pulse: Arc<Pulse>,
}

pub(super) const NO_REQUEST: u8 = 0;
pub(super) const DRAIN: u8 = 1;
pub(super) const STOP: u8 = 2;
pub(super) const STOP_AT_ONCE: u8 = 3;

/// The part of the configuration that a shard goes by, which can change while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    pub(crate) settings: Settings,
    /// Of listeners that do not listen before the shard starts; a running one has none.
    pub(crate) backlog: u32,
    pub(crate) busy_poll_us: u64,
}

impl From<&Config> for Tuning {
    fn from(config: &Config) -> Tuning {
        Tuning {
            settings: Settings::from(config),
            backlog: config.server.backlog,
            busy_poll_us: u64::from(config.shards.busy_poll_us),
        }
    }
}

/// What is wanted of a shard, besides going down.
pub(crate) enum Order {
    /// Go by this from now on.
    Reload {
        tuning: Tuning,
        /// Never sent on: that it is gone tells the other end that the shard has taken the order, or
        /// has ended.
        untaken: mpsc::Sender<()>,
    },
    /// Show how it is.
    Show(Show),
    /// Do what others want done; the room for it is given back when that is done.
    Deliver(Message<OwnedFd>, Room),
}

/// An order to show how a shard is.
pub(crate) struct Show {
    /// In exchange for the latencies.
    pub(crate) empty: Latencies,
    /// As many of its connections in each order of [`CensusBy`](crate::shard::CensusBy); 0 for none.
    pub(crate) connections: usize,
    /// Where the snapshot goes; it must not block.
    pub(crate) reply: Reply,
}

/// Takes a snapshot.
pub(crate) type Reply = Box<dyn FnOnce(Snapshot) + Send>;

impl Control {
    /// One for the shard that watches this doorbell, and what the shard takes its orders from.
    pub(crate) fn new(doorbell: Doorbell) -> (Control, mpsc::Receiver<Order>) {
        let (sender, orders) = mpsc::channel();
        let control = Control {
            request: AtomicU8::new(NO_REQUEST),
            is_up: AtomicBool::new(false),
            has_orders: AtomicBool::new(false),
            orders: sender,
            rooms: Arc::default(),
            doorbell,
            pulse: Arc::default(),
        };
        (control, orders)
    }

    /// What the shard shows all the time.
    pub(crate) fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Has the shard drain.
    pub(crate) fn drain(&self) {
        self.ask(DRAIN);
    }

    /// Has the shard stop.
    pub(crate) fn stop(&self) {
        self.ask(STOP);
    }

    /// Has the shard stop without waiting for what is queued.
    pub(crate) fn stop_at_once(&self) {
        self.ask(STOP_AT_ONCE);
    }

    /// Has the shard go by this from now on. `untaken` is dropped when it does, or has ended.
    pub(crate) fn reload(&self, tuning: Tuning, untaken: mpsc::Sender<()>) {
        self.order(Order::Reload { tuning, untaken });
    }

    /// Has the shard show how it is. One that has ended drops the order.
    pub(crate) fn show(&self, show: Show) {
        self.order(Order::Show(show));
    }

    /// Has the shard do what another shard could want done, with so many bytes of frames.
    pub(crate) fn deliver(&self, message: Message<OwnedFd>, bytes: usize) -> Result<(), Refused> {
        let room = self.take_room(bytes)?;
        self.deliver_into(room, message)
    }

    /// Takes room for something to deliver.
    pub(crate) fn take_room(&self, bytes: usize) -> Result<Room, Refused> {
        self.rooms.take(bytes)
    }

    /// The same as [`Control::deliver`] where room was taken before.
    pub(crate) fn deliver_into(
        &self,
        room: Room,
        message: Message<OwnedFd>,
    ) -> Result<(), Refused> {
        let sent = self.orders.send(Order::Deliver(message, room));
        sent.map_err(|_| Refused::Gone)?;
        self.flag_orders();
        Ok(())
    }

    /// Deliveries that found no room since it was asked for last.
    pub(super) fn take_refused(&self) -> u64 {
        self.rooms.take_refused()
    }

    fn order(&self, order: Order) {
        // A shard that has ended obeys nobody.
        if self.orders.send(order).is_ok() {
            self.flag_orders();
        }
    }

    /// Raises the flag, and rings. Where it is up, the shard has yet to take it down, and sees the
    /// order then: taking it down reads what the last one who found it up has written.
    fn flag_orders(&self) {
        if !self.has_orders.swap(true, Ordering::AcqRel) {
            self.doorbell.ring();
        }
    }

    /// Says that the shard could accept connections.
    pub(super) fn come_up(&self) {
        self.is_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    fn ask(&self, request: u8) {
        self.request.fetch_max(request, Ordering::Release);
        self.doorbell.ring();
    }

    #[inline]
    pub(super) fn request(&self) -> u8 {
        self.request.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn has_orders(&self) -> bool {
        self.has_orders.load(Ordering::Relaxed)
    }

    /// Whether there are orders to take, which the caller is to do now.
    pub(super) fn take_orders(&self) -> bool {
        self.has_orders() && self.has_orders.swap(false, Ordering::Acquire)
    }

    /// The shard, which took orders, may have left some. A swap, since a store would hide from it what
    /// somebody ordered who found the flag down meanwhile.
    pub(super) fn leave_orders(&self) {
        self.has_orders.swap(true, Ordering::AcqRel);
    }
}
