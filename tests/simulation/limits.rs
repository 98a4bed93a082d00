//! The limits and faults of a run, small enough to be met.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use corelane::handler::Router;
use corelane::shard::{Arrival, Completion, Flood, Io, Loads, Operation, Settings, Shard};

use crate::io::Faults;
use crate::network::{Socket, address};
use crate::random::Random;
use crate::rate::Rate;
use crate::scenario::Class;

pub(crate) fn settings(class: Class, rate: Option<Rate>, random: &mut Random) -> Settings {
    let frame_bytes_max = match class {
        Class::Large => 29_000,
        Class::Slow | Class::Hoarder | Class::Memory => random.between(64, 2_000),
        Class::Mesh => random.one_of(&[64, 300, 2_000, 8_000, 29_000]),
        Class::Topics => random.one_of(&[100, 2_000, 8_000, 29_000]),
        _ => random.one_of(&[64, 100, 300, 29_000]),
    };
    let outbound_high_bytes = match class {
        Class::Slow | Class::Hoarder => random.between(2, 600),
        Class::Large => 100_000,
        _ => random.one_of(&[100, 1_000, 10_000, 100_000]),
    };
    let mut settings = Settings {
        connections_max: match class {
            Class::Crowded => random.between(1, 3),
            _ => random.between(1, 12),
        },
        frame_bytes_max,
        bad_frames_max: random.between(1, 5) as u32,
        outbound_low_bytes: random.between(1, outbound_high_bytes - 1),
        outbound_high_bytes,
        outbound_bytes_max: match class {
            Class::Mesh | Class::Topics => {
                outbound_high_bytes + random.one_of(&[1, 5, 1_000]) * frame_bytes_max
            }
            _ => outbound_high_bytes + frame_bytes_max,
        },
        memory_bytes_max: match class {
            Class::Memory => {
                connection_bytes() * random.between(1, 4) + random.one_of(&[0, 100, 3_000])
            }
            _ => usize::MAX,
        },
        connections_per_address_max: None,
        balanced: class == Class::Balanced || random.percent(50),
        first_frame_us: None,
        idle_us: None,
        write_us: None,
        flood: rate.and_then(|rate| Flood::new(rate.frames_per_second, rate.burst)),
        large_bytes: random.one_of(&[1, 10, 100, 4_096, usize::MAX]),
        bulk_bytes: match class {
            // What a multishot brings beyond its cancel is what this class is about.
            Class::Large => usize::MAX,
            _ => random.one_of(&[1, 10, 100, 4_096, 32_768]),
        },
        turn_frames_max: random.one_of(&[1, 2, 5, 512]),
        turn_bytes_max: random.one_of(&[1, 100, 1_000, 128 * 1024]),
        turn_slots_max: match class {
            Class::Mesh => random.one_of(&[1, 2, 512]),
            _ => 512,
        },
        turn_errands_max: random.one_of(&[1, 3, 512]),
        turn_messages_max: match class {
            Class::Mesh | Class::Topics => random.one_of(&[1, 3, 512]),
            _ => 512,
        },
        handlers_max: match class {
            Class::Overload => random.between(1, 3),
            _ => 1_000,
        },
        slow_us: None,
        // Without them it is not told what was refused.
        reply_errors: random.percent(if class == Class::Topics { 100 } else { 70 }),
        drain_us: random.one_of(&[1_000, 300_000, 1_500_000, 5_000_000]),
        stop_us: random.one_of(&[0, 1_000, 100_000, 2_000_000, 30_000_000]),
    };
    settings.connections_per_address_max = match class {
        Class::Balanced | Class::Crowded if random.percent(60) => {
            NonZeroU32::new(random.between(1, 3) as u32)
        }
        _ if random.percent(20) => NonZeroU32::new(random.between(1, 4) as u32),
        _ => None,
    };
    set_patience(class, &mut settings, random);
    settings
}

/// Others for the same run, and their rate; what the model can't follow is the same. Both come to have
/// what only reloads are about.
pub(crate) fn other_settings(
    class: Class,
    former: &mut Settings,
    random: &mut Random,
) -> (Settings, Option<Rate>) {
    let rate = if random.percent(25) {
        None
    } else {
        rate(class, random)
    };
    let mut other = settings(class, rate, random);
    if random.percent(60) {
        former.frame_bytes_max = former.frame_bytes_max.min(random.between(64, 300));
    }
    for settings in [&mut *former, &mut other] {
        if random.percent(60) {
            settings.outbound_high_bytes = random.between(2, 1_000);
            settings.outbound_low_bytes = random.between(1, settings.outbound_high_bytes - 1);
        }
        let max = NonZeroU32::new(random.between(1, 4) as u32);
        settings.connections_per_address_max = max.filter(|_| random.percent(60));
        settings.balanced = random.percent(60);
        settings.turn_slots_max = random.one_of(&[1, 1, 1, 2, 512]);
        if random.percent(60) {
            settings.connections_max = random.between(6, 12);
        }
        for time_out in [
            &mut settings.idle_us,
            &mut settings.first_frame_us,
            &mut settings.write_us,
        ] {
            let is_meant = random.percent(if time_out.is_some() { 80 } else { 60 });
            *time_out = is_meant.then(|| random.between_us(25_000, 100_000));
        }
    }
    match random.between(0, 3) {
        0 => crowd(former, &mut other, random),
        1 => squeeze(former, &mut other, random),
        _ => {}
    }
    former.outbound_bytes_max = former.outbound_high_bytes + former.frame_bytes_max;
    let other = Settings {
        frame_bytes_max: former.frame_bytes_max,
        bad_frames_max: former.bad_frames_max,
        outbound_bytes_max: other.outbound_high_bytes + former.frame_bytes_max,
        large_bytes: former.large_bytes,
        bulk_bytes: former.bulk_bytes,
        turn_frames_max: former.turn_frames_max,
        turn_bytes_max: former.turn_bytes_max,
        reply_errors: former.reply_errors,
        ..other
    };
    (other, rate)
}

/// Connections that wait for room when addresses come to have a limit.
fn crowd(former: &mut Settings, other: &mut Settings, random: &mut Random) {
    former.connections_per_address_max = None;
    other.connections_per_address_max = NonZeroU32::new(random.between(1, 4) as u32);
    for settings in [former, other] {
        settings.connections_max = random.between(1, 2);
    }
}

/// More is queued than may be from then on.
fn squeeze(former: &mut Settings, other: &mut Settings, random: &mut Random) {
    former.frame_bytes_max = random.between(64, 100);
    former.outbound_high_bytes = random.between(300, 2_000);
    other.outbound_high_bytes = random.between(2, 60);
    for settings in [former, other] {
        settings.outbound_low_bytes = random.between(1, settings.outbound_high_bytes - 1);
    }
}

/// The time-outs, in those classes that have some.
fn set_patience(class: Class, settings: &mut Settings, random: &mut Random) {
    let is_part = matches!(class, Class::Crowded | Class::Drain | Class::Memory);
    let mut patience = |is_meant: bool| {
        let some_us = random.between_us(25_000, 100_000);
        (is_meant || is_part && random.percent(40)).then_some(some_us)
    };
    settings.idle_us = patience(class == Class::Idle);
    settings.first_frame_us = patience(class == Class::Idle);
    settings.write_us = patience(class == Class::Hoarder);
}

/// How fast frames may come, in numbers that leave no rest.
pub(crate) fn rate(class: Class, random: &mut Random) -> Option<Rate> {
    (class == Class::Flood).then(|| Rate {
        frames_per_second: random.one_of(&[1, 10, 100, 1_000, 10_000]),
        burst: random.between(1, 30) as u32,
    })
}

pub(crate) fn faults(class: Class, random: &mut Random) -> Faults {
    let mut sometimes = |most: u64| {
        if random.percent(50) {
            random.between_us(1, most)
        } else {
            0
        }
    };
    let is_calm = matches!(class, Class::Calm | Class::Idle | Class::Flood);
    let mut faults = Faults {
        progress_percent: 100 - sometimes(50),
        ends_percent: sometimes(60),
        no_buffers_percent: sometimes(40),
        short_sends_percent: sometimes(80),
        sends_wait: sometimes(1) == 1,
        late_percent: sometimes(80),
        breaks_per_mille: if is_calm { 0 } else { sometimes(20) },
        cancel_races_percent: sometimes(80),
        accept_fails_percent: if is_calm { 0 } else { sometimes(40) },
        buffers: 1 + sometimes(7) as usize,
        buffer_bytes: 0,
        window_bytes: 0,
        reap_max: usize::MAX,
        mesh_queue_max: sometimes(3) as usize,
        sits_out_percent: sometimes(60),
    };
    faults.window_bytes = match class {
        Class::Slow | Class::Hoarder => random.between(1, 400),
        Class::Memory | Class::Mesh | Class::Topics => random.one_of(&[500, 1 << 20]),
        _ => random.one_of(&[50, 500, 1 << 20]),
    };
    faults.buffer_bytes = match class {
        Class::Large => random.between(1_000, 16_000),
        Class::Memory | Class::Slow | Class::Hoarder | Class::Topics => {
            random.one_of(&[100, 4_096])
        }
        _ => random.one_of(&[10, 100, 4_096]),
    };
    if random.percent(30) {
        faults.reap_max = random.between(1, 4);
    }
    faults
}

/// What a connection holds that has neither sent nor got anything, in bytes.
pub(crate) fn connection_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| {
        let settings = Settings::from(&corelane::Config::default());
        let shard = (0, Arc::new(Loads::new(1)));
        let mut shard = Shard::new(Single::default(), shard, 1, settings, Router::new(), |_| {
            Rc::new(())
        });
        shard.turn(0);
        shard.memory_bytes()
    })
}

/// One connection arrives again and again, and nothing else happens.
#[derive(Default)]
struct Single {
    arrivals: u32,
}

impl Io for Single {
    type Socket = Socket;
    type Received = Vec<u8>;

    fn submit(&mut self, _operation: Operation<'_, Socket>) {}

    fn is_congested(&self) -> bool {
        false
    }

    fn reap(&mut self, _max: usize) {
        self.arrivals = 1;
    }

    fn completion(&mut self) -> Option<Completion<Socket, Vec<u8>>> {
        self.arrivals = self.arrivals.checked_sub(1)?;
        Some(Completion::Accepted {
            listener: 0,
            result: Ok(Arrival::new(Socket(0), address(0, 0, false))),
            more: true,
        })
    }
}
