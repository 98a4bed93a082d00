//! How long do the parts of a message's way take: decoding, encoding, the shard's dispatch, the
//! opening and closing of a connection, and the timers?
//!
//! The shard runs over peers without a kernel (`peers_io.rs`), so none of this is what a message
//! costs on a wire: `echo` measures that. These are for comparing one state of the code with
//! another on a quiet machine; where it is noisy, `instructions` still tells them apart.

#![allow(clippy::expect_used)] // what cannot fail here says so

use std::time::Duration;

use corelane::protocol::Decoder;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};

use self::timers::Timers;
use self::work::EchoShard;

mod peers_io;
mod timers;
mod work;

const SMALL_BYTES: usize = 32;
const LARGE_BYTES: usize = 16 * 1024;
const FRAMES: usize = 64;
const CONNECTIONS: usize = 64;
const LAPSED: usize = 256;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    decoding(&mut criterion.benchmark_group("decode"));
    encoding(&mut criterion.benchmark_group("encode"));
    dispatching(&mut criterion.benchmark_group("turn"));
    coming_and_going(&mut criterion.benchmark_group("connections"));
    timing(&mut criterion.benchmark_group("timers"));
    criterion.final_summary();
}

fn decoding(group: &mut BenchmarkGroup<'_, WallTime>) {
    let small = work::requests(FRAMES, SMALL_BYTES);
    let large = work::requests(1, LARGE_BYTES);
    let mut decoder = Decoder::new();
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("64 frames of 32 bytes, one slice", |bencher| {
        bencher.iter(|| work::decode(&mut decoder, &small));
    });
    // 50 bytes: every slice but the first begins in a frame, and most hold the end of one.
    group.bench_function("64 frames of 32 bytes, slices of 50 bytes", |bencher| {
        bencher.iter(|| decode_slices(&mut decoder, &small, 50));
    });
    group.throughput(Throughput::Bytes(LARGE_BYTES as u64));
    group.bench_function("a frame of 16 KiB, one slice", |bencher| {
        bencher.iter(|| work::decode(&mut decoder, &large));
    });
    // What a segment of TCP carries on Ethernet.
    group.bench_function("a frame of 16 KiB, slices of 1448 bytes", |bencher| {
        bencher.iter(|| decode_slices(&mut decoder, &large, 1448));
    });
}

fn decode_slices(decoder: &mut Decoder, bytes: &[u8], slice_bytes: usize) -> u64 {
    let count = bytes
        .chunks(slice_bytes)
        .map(|slice| work::decode(decoder, slice))
        .sum();
    assert_eq!(decoder.held_bytes(), 0, "whole frames leave nothing behind");
    count
}

fn encoding(group: &mut BenchmarkGroup<'_, WallTime>) {
    let small = work::bodies(FRAMES, SMALL_BYTES);
    let large = work::bodies(1, LARGE_BYTES);
    let mut out = Vec::new();
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("64 frames of 32 bytes", |bencher| {
        bencher.iter(|| work::encode_all(&mut out, &small));
    });
    group.throughput(Throughput::Bytes(LARGE_BYTES as u64));
    group.bench_function("a frame of 16 KiB", |bencher| {
        bencher.iter(|| work::encode_all(&mut out, &large));
    });
}

/// Completions in, decode, handler, encode, sends out.
fn dispatching(group: &mut BenchmarkGroup<'_, WallTime>) {
    for pipeline in [1, 32] {
        let batch = work::requests(pipeline, SMALL_BYTES);
        let mut echo = EchoShard::start(&batch, CONNECTIONS);
        group.throughput(Throughput::Elements((CONNECTIONS * pipeline) as u64));
        group.bench_function(format!("ECHO of 32 bytes, 64/{pipeline}"), |bencher| {
            bencher.iter(|| echo.turn());
        });
    }
}

/// Accepted, entered in the slab, found empty, taken out and closed.
fn coming_and_going(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.throughput(Throughput::Elements(CONNECTIONS as u64));
    let mut shard = EchoShard::deserted(CONNECTIONS);
    group.bench_function("64 accepted and closed", |bencher| {
        bencher.iter(|| come_and_go(&mut shard));
    });
}

/// Turns until as many more connections as there are peers have come and gone.
fn come_and_go(shard: &mut EchoShard<'_>) {
    let until = shard.closed() + CONNECTIONS as u64;
    while shard.closed() < until {
        shard.turn();
    }
}

/// A million timers: what one costs, and what all of them cost while none lapses.
fn timing(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut timers = Timers::start(60_000_000);
    group.bench_function("a turn in which none lapses", |bencher| {
        bencher.iter(|| timers.look());
    });
    group.bench_function("one cancelled and set", |bencher| {
        bencher.iter(|| timers.cancel_and_set());
    });
    group.bench_function("one moved", |bencher| {
        bencher.iter(|| timers.move_one());
    });
    group.throughput(Throughput::Elements(LAPSED as u64));
    // Within a rotation of the wheel, and nine rotations away.
    for seconds in [60, 600] {
        let mut timers = Timers::start(seconds * 1_000_000);
        let name = format!("256 lapse and are set again, {seconds} s away");
        group.bench_function(name, |bencher| {
            bencher.iter(|| timers.lapse_and_set_again(LAPSED));
        });
    }
}
