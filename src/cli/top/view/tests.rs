//! What stands on the screen, as a terminal would have it.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::super::model::Shard;
use super::super::model::tests::sample;
use super::*;

fn drawn(screen: &mut Screen, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let palette = Palette::new(false);
    terminal
        .draw(|frame| draw(frame, screen, &palette))
        .unwrap();
    let drawn = terminal.backend().to_string();
    let line = |line: &str| line.trim_matches('"').trim_end().to_owned();
    drawn.lines().map(line).collect()
}

fn screen() -> Screen {
    let mut screen = Screen::new("127.0.0.1:8701".to_owned());
    screen.take(Ok(sample()));
    screen
}

#[test]
fn all_of_it_fits_80_by_24() {
    let expected = [
        "corelane 0.1.0  process 4711  up 1d1h  serving                    127.0.0.1:8701",
        "503 connections  33800 messages/s  1.35MB/s in  1.37MB/s out  busiest 56%",
        "shard 1 is stuck: code 1000 for connection 1-17-4 has held it for 4.20s",
        "── shards ──────────────────────────────────────────────────────────────────────",
        "shard   conns  messages/s  received      sent  busy  memory  slow-turns   stuck",
        "    0     500       33056  1.32MB/s  1.37MB/s   56%  8.40MB           0       -",
        "    1       3         744  29.7kB/s      0B/s   <1%  8.50MB           2   4.20s",
        "── codes, percentiles of the last minute ───────────────────────────────────────",
        "code     messages  messages/s     p50     p90     p99   p99.9     max   slow",
        "1/ECHO    6429678       33800    84us   135us   279us   720us  1.80ms      0",
        "others          2           0     0us     0us     0us     0us     0us      0",
        "── since the start ─────────────────────────────────────────────────────────────",
        "closes      peer_closed 48211  idle 1290  reset 611",
        "bad frames  UNKNOWN_CODE 31",
        "drops       none",
        "── connections, most queued ────────────────────────────────────────────────────",
        "connection  peer                   queued  received  slowest         ending",
        "0-1-2       [2001:db8::7]:40037    32.5kB    31.1MB   45.0ms  slow_consumer",
        "",
        "",
        "",
        "",
        "",
        "q quit  ←→ sort: shard, rising  r reverse  ↑↓ scroll  Tab connections",
    ];
    assert_eq!(drawn(&mut screen(), 80, 24), expected);
}

#[test]
fn many_shards_leave_room_for_the_rest_and_can_be_scrolled() {
    let mut screen = screen();
    if let Some(status) = &mut screen.status {
        let shard = status.shards[0].clone();
        status.shards = (0..64)
            .map(|number| Shard {
                shard: number,
                ..shard.clone()
            })
            .collect();
    }
    let lines = drawn(&mut screen, 80, 24);
    assert!(lines[3].starts_with("── shards 1-7 of 64 ──"), "{lines:?}");
    let few = drawn(&mut screen, 80, 16);
    let codes = few.iter().find(|line| line.starts_with("── codes"));
    assert!(
        codes.is_some_and(|line| line.contains(", 1 of 2 ──")),
        "{few:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("0-1-2 ")),
        "{lines:?}"
    );
    screen.press(KeyEvent::from(KeyCode::End));
    let lines = drawn(&mut screen, 80, 24);
    assert!(
        lines[3].starts_with("── shards 58-64 of 64 ──"),
        "{lines:?}"
    );
    // A higher window has room for what was above.
    let lines = drawn(&mut screen, 80, 100);
    assert!(lines[3].starts_with("── shards ──"), "{lines:?}");
}

#[test]
fn a_server_that_does_not_answer_is_told_and_what_it_said_stays() {
    let mut screen = Screen::new("127.0.0.1:8701".to_owned());
    assert_eq!(drawn(&mut screen, 80, 24)[1], "asking 127.0.0.1:8701 ...");
    let sentence = "no answer from 127.0.0.1:8701, asked again each second: refused";
    screen.take(Err("refused".to_owned()));
    assert_eq!(drawn(&mut screen, 80, 24)[1], sentence);
    screen.take(Ok(sample()));
    screen.take(Err("refused".to_owned()));
    let lines = drawn(&mut screen, 80, 24);
    assert_eq!(lines[2], sentence);
    assert!(lines[9].starts_with("1/ECHO    6429678"), "{lines:?}");
}

#[test]
fn troubles_stand_out_with_colours_and_without() {
    let style_at = |with_colours: bool| {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let palette = Palette::new(with_colours);
        let mut screen = screen();
        terminal
            .draw(|frame| draw(frame, &mut screen, &palette))
            .unwrap();
        let buffer = terminal.backend().buffer().clone();
        [(4, 5), (4, 6)].map(|place| buffer[place].style())
    };
    let [quiet, stuck] = style_at(true);
    assert_eq!((quiet.fg, stuck.fg), (Some(Color::Reset), Some(Color::Red)));
    let [quiet, stuck] = style_at(false);
    assert_eq!(stuck.fg, Some(Color::Reset));
    assert!(stuck.add_modifier.contains(Modifier::REVERSED));
    assert!(quiet.add_modifier.is_empty());
}

#[test]
fn rows_are_dealt_in_turn() {
    assert_eq!(deal(100, [2, 5, 10]), [2, 5, 10]);
    assert_eq!(deal(10, [64, 2, 10]), [4, 2, 4]);
    assert_eq!(deal(0, [64, 2, 10]), [0, 0, 0]);
    assert_eq!(deal(5, [0, 0, 0]), [0, 0, 0]);
}

#[test]
fn no_size_is_too_small_to_draw() {
    for (width, height) in [(1, 1), (20, 5), (40, 10), (300, 100)] {
        drawn(&mut screen(), width, height);
    }
}
