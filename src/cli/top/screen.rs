//! What the screen shows and what keys do to that; no terminal is touched here.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::model::{Connection, Shard, Status};
use super::tables::{self, SHARDS};

/// Which connections are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum List {
    Queued,
    Busy,
    Slow,
}

impl List {
    pub(super) const ALL: [List; 3] = [List::Queued, List::Busy, List::Slow];

    pub(super) fn title(self) -> &'static str {
        match self {
            List::Queued => "most queued",
            List::Busy => "busiest",
            List::Slow => "slowest",
        }
    }

    pub(super) fn of(self, status: &Status) -> &[Connection] {
        match self {
            List::Queued => &status.connections.queued,
            List::Busy => &status.connections.busy,
            List::Slow => &status.connections.slow,
        }
    }

    /// So many further on, round and round.
    fn step(self, by: usize) -> List {
        let at = List::ALL.iter().position(|&list| list == self).unwrap_or(0);
        List::ALL[(at + by) % List::ALL.len()]
    }
}

pub(super) struct Screen {
    /// Where the server is asked.
    pub address: String,
    /// What it said last.
    pub status: Option<Status>,
    /// Why it did not answer when it was asked last.
    pub silence: Option<String>,
    /// The column of [`SHARDS`] that these are sorted by.
    pub sort: usize,
    pub is_reversed: bool,
    pub list: List,
    /// The first shard shown, of the sorted ones.
    pub first_shard: usize,
    /// How many shards there was room for.
    pub shards_shown: usize,
    /// Columns of the terminal.
    pub width: u16,
}

impl Screen {
    pub(super) fn new(address: String) -> Screen {
        Screen {
            address,
            status: None,
            silence: None,
            sort: 0,
            is_reversed: false,
            list: List::Queued,
            first_shard: 0,
            shards_shown: 0,
            width: 80,
        }
    }

    pub(super) fn take(&mut self, answer: Result<Status, String>) {
        match answer {
            Ok(status) => {
                self.status = Some(status);
                self.silence = None;
            }
            Err(why) => self.silence = Some(why),
        }
    }

    pub(super) fn sorted_shards(&self) -> Vec<&Shard> {
        let shards = self
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.shards);
        tables::sorted(shards, &SHARDS[self.sort], self.is_reversed)
    }

    /// The columns of the shards that there is room for.
    pub(super) fn shard_columns(&self) -> Vec<usize> {
        let widths = tables::widths(SHARDS, &self.sorted_shards());
        tables::fitting(SHARDS, &widths, self.width)
    }

    /// Does what a key asks for; says whether that is to quit.
    pub(super) fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let page = self.shards_shown.max(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => return true,
            KeyCode::Left => self.choose_column(false),
            KeyCode::Right => self.choose_column(true),
            KeyCode::Char('r' | 'R') => self.is_reversed = !self.is_reversed,
            KeyCode::Tab => self.list = self.list.step(1),
            KeyCode::BackTab => self.list = self.list.step(List::ALL.len() - 1),
            KeyCode::Up => self.scroll_to(self.first_shard.saturating_sub(1)),
            KeyCode::Down => self.scroll_to(self.first_shard + 1),
            KeyCode::PageUp => self.scroll_to(self.first_shard.saturating_sub(page)),
            KeyCode::PageDown => self.scroll_to(self.first_shard + page),
            KeyCode::Home => self.scroll_to(0),
            KeyCode::End => self.scroll_to(usize::MAX),
            _ => {}
        }
        false
    }

    /// Sorts by the next of the columns that are shown, the greatest first; shards by their number
    /// begin with the first.
    fn choose_column(&mut self, to_the_right: bool) {
        let shown = self.shard_columns();
        let next = if to_the_right {
            shown.iter().find(|&&column| column > self.sort)
        } else {
            shown.iter().rev().find(|&&column| column < self.sort)
        };
        if let Some(&next) = next {
            self.sort = next;
            self.is_reversed = next > 0;
            self.first_shard = 0;
        }
    }

    /// Shows the shards from this one on, or the last ones there are.
    pub(super) fn scroll_to(&mut self, first: usize) {
        let shards = self.status.as_ref().map_or(0, |status| status.shards.len());
        self.first_shard = first.min(shards.saturating_sub(self.shards_shown));
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::sample;
    use super::*;

    fn screen() -> Screen {
        let mut screen = Screen::new("127.0.0.1:8701".to_owned());
        screen.take(Ok(sample()));
        screen
    }

    fn press(screen: &mut Screen, code: KeyCode) -> bool {
        screen.press(KeyEvent::from(code))
    }

    #[test]
    fn it_quits_by_three_keys_and_no_other() {
        let mut screen = screen();
        assert!(press(&mut screen, KeyCode::Char('q')));
        assert!(press(&mut screen, KeyCode::Esc));
        assert!(screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        for code in [
            KeyCode::Char('c'),
            KeyCode::Tab,
            KeyCode::Char('r'),
            KeyCode::Enter,
        ] {
            assert!(!press(&mut screen, code));
        }
    }

    #[test]
    fn arrows_choose_among_the_columns_that_are_shown() {
        let mut screen = screen();
        let shown = screen.shard_columns();
        let mut seen = vec![screen.sort];
        for _ in 0..20 {
            press(&mut screen, KeyCode::Right);
            if seen.last() != Some(&screen.sort) {
                seen.push(screen.sort);
            }
        }
        assert_eq!(seen, shown);
        assert_eq!(screen.sorted_shards()[0].shard, 1, "the stuck one");
        press(&mut screen, KeyCode::Char('r'));
        assert_eq!(screen.sorted_shards()[0].shard, 0);
        for _ in 0..20 {
            press(&mut screen, KeyCode::Left);
        }
        assert_eq!((screen.sort, screen.is_reversed), (0, false));
    }

    #[test]
    fn tab_goes_round_the_lists() {
        let mut screen = screen();
        let mut seen = Vec::new();
        for code in [KeyCode::Tab, KeyCode::Tab, KeyCode::Tab, KeyCode::BackTab] {
            press(&mut screen, code);
            seen.push(screen.list);
        }
        assert_eq!(seen, [List::Busy, List::Slow, List::Queued, List::Slow]);
    }

    #[test]
    fn scrolling_ends_at_both_ends() {
        let mut status = sample();
        let shard = status.shards[0].clone();
        status.shards = vec![shard; 10];
        let mut screen = Screen::new(String::new());
        screen.take(Ok(status));
        screen.shards_shown = 4;
        let mut seen = Vec::new();
        for code in [
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageDown,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::PageUp,
        ] {
            press(&mut screen, code);
            seen.push(screen.first_shard);
        }
        assert_eq!(seen, [0, 1, 5, 6, 0, 6, 2]);
    }

    #[test]
    fn silence_keeps_what_was_said_before() {
        let mut screen = screen();
        screen.take(Err("connection refused".to_owned()));
        assert!(screen.status.is_some() && screen.silence.is_some());
        screen.take(Ok(sample()));
        assert_eq!(screen.silence, None);
    }
}
