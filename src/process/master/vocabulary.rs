//! The words between the master's mind and the supervisor: events in, actions out, and what they
//! speak about. Plain data.

/// A worker, by the number of its start. Numbers do not come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// Whoever sent an order and may wait for its outcome: a process id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker(pub u32);

/// What an operator orders, by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop soon.
    Stop,
    /// Drain, then stop.
    Quit,
    /// Read the configuration again.
    Reload,
    /// Reopen the log file.
    Reopen,
    /// Go on with the program file now on disk.
    Upgrade,
}

/// What the new configuration means for the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is wrong, or can't be read.
    Wrong,
    /// It says what the old one says.
    Same,
    /// The worker that serves can take it over.
    InPlace,
    /// It takes a new worker.
    NewWorker,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An order came.
    Asked(Order, Option<Asker>),
    /// This worker is ready.
    Ready(WorkerId),
    /// This worker has reopened its log.
    Reopened(WorkerId),
    /// This worker has taken the configuration over that it was told to.
    Adapted(WorkerId),
    /// This worker can't.
    NotAdapted(WorkerId),
    /// This worker has ended, or could not be started.
    Ended(WorkerId),
    /// The answer to [`Action::Examine`].
    Examined(Finding),
    /// [`Action::HandOver`] failed: this program goes on.
    NotHandedOver,
    /// Time went by.
    Tick,
}

/// What to start a worker with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Design {
    /// The program that runs, and the configuration in force.
    InForce,
    /// The program that runs, and the configuration that was examined last.
    Candidate,
    /// The program now on disk, and the configuration in force.
    OnDisk,
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Take no new connections, finish, end.
    Drain,
    /// End soon; sooner if told before.
    Stop,
    /// End now.
    Kill,
    /// Reopen the log file.
    Reopen,
    /// Take over the configuration that was examined last: [`Event::Adapted`] is due, or
    /// [`Event::NotAdapted`].
    Adapt,
}

/// How an order came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The new configuration is wrong; nothing has changed.
    Wrong,
    /// The new configuration says the same; nothing has changed.
    Same,
    /// The worker that serves took the configuration over.
    InPlace,
    /// A new worker serves with the new configuration.
    Reloaded {
        /// Who served before, if anybody did.
        old: Option<WorkerId>,
        /// Who serves now.
        new: WorkerId,
    },
    /// A new worker serves, and the master is the new program.
    Upgraded {
        /// Who served before, if anybody did.
        old: Option<WorkerId>,
        /// Who serves now.
        new: WorkerId,
    },
    /// The new worker ended before it was ready; nothing has changed.
    Died(WorkerId),
    /// The new worker was not ready in time and was stopped; nothing has changed.
    Late(WorkerId),
    /// The new program did not take the master's place; nothing has changed.
    NotHandedOver,
    /// The logs were reopened.
    Reopened,
    /// The server goes down instead.
    GoesDown,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker.
    Start(WorkerId, Design),
    /// Tell a worker.
    Tell(WorkerId, Message),
    /// The server is ready for the first time: say so to whoever waits for it.
    Announce,
    /// Close the listening sockets: no worker is started any more.
    CloseSockets,
    /// Read and check the configuration; [`Event::Examined`] is due at once.
    Examine,
    /// The configuration that was examined last is the one in force from now on.
    Adopt,
    /// Put this program's successor in its place, with all it knows: [`Master::succession`](super::Master::succession). Only
    /// failure returns, as [`Event::NotHandedOver`] at once.
    HandOver,
    /// Reopen the master's own log file.
    ReopenLog,
    /// Log how an order came out, and tell those who wait for it.
    Report(Outcome, Vec<Asker>),
    /// Log that this newcomer took too long; telling it to go follows.
    Late(WorkerId),
    /// Wait before a worker is started again: it keeps dying young. To be logged.
    Pause(u64),
    /// End: all is over. `false` if the server never was ready, though nobody stopped it.
    Exit(bool),
}

/// How patient the master is, all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest pause before a start.
    pub respawn_max_ms: u64,
    /// How long a worker may take to get ready.
    pub ready_ms: u64,
    /// How long a worker may take to drain.
    pub drain_ms: u64,
    /// How long a worker may take to stop.
    pub stop_ms: u64,
}

/// What the new program's master has to know: all in the order of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// Who served under the old program, if anybody did.
    pub old: Option<WorkerId>,
    /// The new program's worker, which is ready.
    pub new: WorkerId,
    /// Those who were told to go before.
    pub leaving: Vec<WorkerId>,
    /// Who waits for the upgrade.
    pub askers: Vec<Asker>,
    /// Who waits for a reload that is to come next, if one is wanted.
    pub reload: Option<Vec<Asker>>,
}
