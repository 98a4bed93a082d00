//! Draws a screen: from top to bottom who it is, troubles, shards, codes, closes, connections, keys.
//!
//! Nothing is drawn from anything but the [`Screen`]. Where there is little room, tables lose the
//! columns that can be spared best, and rows in turn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::model::Status;
use super::screen::Screen;
use super::tables::{self, CODES, CONNECTIONS, Column, SHARDS};
use super::text;

/// How things look; without colours, bold and reverse say it.
pub(super) struct Palette {
    heading: Style,
    dim: Style,
    chosen: Style,
    warn: Style,
    bad: Style,
}

impl Palette {
    pub(super) fn new(with_colours: bool) -> Palette {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let dim = Style::new().add_modifier(Modifier::DIM);
        let chosen = bold.add_modifier(Modifier::REVERSED);
        let colour = |colour| if with_colours { bold.fg(colour) } else { bold };
        Palette {
            heading: colour(Color::Cyan),
            dim,
            chosen,
            warn: colour(Color::Yellow),
            bad: if with_colours {
                colour(Color::Red)
            } else {
                chosen
            },
        }
    }
}

/// Lines that are not rows of a table: who, totals and troubles; a heading and titles for each of
/// three tables; closes with their heading and two more; keys.
const FRAME_LINES: u16 = 3 + 3 * 2 + 4 + 1;

/// Draws it, and takes note in it of what there was room for.
pub(super) fn draw(frame: &mut Frame, screen: &mut Screen, palette: &Palette) {
    let area = frame.area();
    screen.width = area.width;
    let rows = rows(screen, area.height);
    let [_, codes_shown, connections_shown] = rows.map(usize::from);
    screen.shards_shown = usize::from(rows[0]);
    screen.scroll_to(screen.first_shard);
    let [who, shards, codes, counts, connections, _, keys] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(2 + rows[0]),
        Constraint::Length(2 + rows[1]),
        Constraint::Length(4),
        Constraint::Length(2 + rows[2]),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    put(frame, who, header(screen, palette));
    if let Some(status) = &screen.status {
        put(frame, shards, shard_lines(screen, palette));
        put(
            frame,
            codes,
            code_lines(screen, status, codes_shown, palette),
        );
        put(frame, counts, count_lines(screen, status, palette));
        put(
            frame,
            connections,
            connection_lines(screen, status, connections_shown, palette),
        );
    }
    put(frame, keys, vec![key_line(screen, palette)]);
}

fn put(frame: &mut Frame, area: Rect, lines: Vec<Line>) {
    for (line, row) in lines.into_iter().zip(area.rows()) {
        frame.render_widget(line, row);
    }
}

/// Rows for shards, codes and connections: all, or in turn one for each that has more.
fn rows(screen: &Screen, height: u16) -> [u16; 3] {
    let Some(status) = &screen.status else {
        return [0; 3];
    };
    let listed = screen.list.of(status).len();
    let wanted = [status.shards.len(), status.codes.len(), listed];
    deal(usize::from(height.saturating_sub(FRAME_LINES)), wanted)
}

/// Deals rows out, one after the other.
fn deal(mut left: usize, wanted: [usize; 3]) -> [u16; 3] {
    let mut dealt = [0_u16; 3];
    loop {
        let before = left;
        for (rows, &wanted) in dealt.iter_mut().zip(&wanted) {
            if left > 0 && usize::from(*rows) < wanted {
                *rows += 1;
                left -= 1;
            }
        }
        if left == 0 || left == before {
            return dealt;
        }
    }
}

fn header<'a>(screen: &Screen, palette: &Palette) -> Vec<Line<'a>> {
    let Some(status) = &screen.status else {
        let state = match &screen.silence {
            None => Span::raw(format!("asking {} ...", screen.address)),
            Some(why) => Span::styled(silence(&screen.address, why), palette.bad),
        };
        return vec![
            Line::styled("corelane top", palette.heading),
            Line::from(state),
        ];
    };
    let who = text::who(status);
    let room = usize::from(screen.width).saturating_sub(who.chars().count());
    let address = format!("{:>room$}", screen.address);
    let mut first = vec![Span::styled(who, palette.heading)];
    if address.len() == room {
        first.push(Span::styled(address, palette.dim));
    }
    let trouble = match &screen.silence {
        Some(why) => Line::styled(silence(&screen.address, why), palette.bad),
        None => troubles(status, palette),
    };
    vec![Line::from(first), Line::raw(text::totals(status)), trouble]
}

fn silence(address: &str, why: &str) -> String {
    format!("no answer from {address}, asked again each second: {why}")
}

fn troubles<'a>(status: &Status, palette: &Palette) -> Line<'a> {
    let mut stuck = text::troubles(status);
    match stuck.len() {
        0 if status.state.as_str() == "serving" => Line::default(),
        0 => Line::styled("nobody new is let in", palette.warn),
        1 => Line::styled(stuck.remove(0), palette.bad),
        more => Line::styled(format!("{} (and {} more)", stuck[0], more - 1), palette.bad),
    }
}

fn shard_lines<'a>(screen: &Screen, palette: &Palette) -> Vec<Line<'a>> {
    let rows = screen.sorted_shards();
    let first = screen.first_shard.min(rows.len());
    let last = rows.len().min(first + screen.shards_shown);
    let title = if last - first < rows.len() {
        format!("shards {}-{last} of {}", first + 1, rows.len())
    } else {
        "shards".to_owned()
    };
    let mut lines = vec![rule(&title, screen.width, palette)];
    let widths = tables::widths(SHARDS, &rows);
    let kept = tables::fitting(SHARDS, &widths, screen.width);
    let sort = Some((screen.sort, screen.is_reversed));
    lines.push(titles(SHARDS, &kept, &widths, sort, palette));
    for shard in &rows[first..last] {
        let style = |column: &Column<_>| match column.title {
            _ if shard.stuck.is_some() => palette.bad,
            "slow-turns" if shard.slow_turns > 0 => palette.warn,
            _ => Style::new(),
        };
        lines.push(row(SHARDS, *shard, &kept, &widths, style));
    }
    lines
}

fn code_lines<'a>(
    screen: &Screen,
    status: &Status,
    shown: usize,
    palette: &Palette,
) -> Vec<Line<'a>> {
    let rows = tables::sorted(&status.codes, &CODES[0], false);
    let widths = tables::widths(CODES, &rows);
    let kept = tables::fitting(CODES, &widths, screen.width);
    let title = format!(
        "codes, percentiles of the last minute{}",
        part(shown, rows.len())
    );
    let mut lines = vec![
        rule(&title, screen.width, palette),
        titles(CODES, &kept, &widths, None, palette),
    ];
    for code in rows.into_iter().take(shown) {
        let style = |column: &Column<_>| match column.title {
            "slow" if code.slow > 0 => palette.warn,
            _ => Style::new(),
        };
        lines.push(row(CODES, code, &kept, &widths, style));
    }
    lines
}

fn count_lines<'a>(screen: &Screen, status: &Status, palette: &Palette) -> Vec<Line<'a>> {
    let line = |(title, counts): (&str, String)| {
        Line::from(vec![
            Span::styled(format!("{title:<10}  "), palette.dim),
            Span::raw(counts),
        ])
    };
    let rule = rule("since the start", screen.width, palette);
    std::iter::once(rule)
        .chain(text::counts(status).map(line))
        .collect()
}

fn connection_lines<'a>(
    screen: &Screen,
    status: &Status,
    shown: usize,
    palette: &Palette,
) -> Vec<Line<'a>> {
    let rows: Vec<_> = screen.list.of(status).iter().collect();
    let title = format!(
        "connections, {}{}",
        screen.list.title(),
        part(shown, rows.len())
    );
    let mut lines = vec![rule(&title, screen.width, palette)];
    if rows.is_empty() {
        lines.push(Line::styled("none", palette.dim));
        return lines;
    }
    let widths = tables::widths(CONNECTIONS, &rows);
    let kept = tables::fitting(CONNECTIONS, &widths, screen.width);
    lines.push(titles(CONNECTIONS, &kept, &widths, None, palette));
    for connection in rows.into_iter().take(shown) {
        let style = |column: &Column<_>| match column.title {
            "ending" if connection.ending.is_some() => palette.warn,
            _ => Style::new(),
        };
        lines.push(row(CONNECTIONS, connection, &kept, &widths, style));
    }
    lines
}

/// `, 4 of 10`, where not all are shown.
fn part(shown: usize, all: usize) -> String {
    if shown < all {
        format!(", {shown} of {all}")
    } else {
        String::new()
    }
}

/// A heading across the screen.
fn rule<'a>(title: &str, width: u16, palette: &Palette) -> Line<'a> {
    let rest = usize::from(width).saturating_sub(title.chars().count() + 4);
    Line::from(vec![
        Span::styled("\u{2500}\u{2500} ", palette.dim),
        Span::styled(title.to_owned(), palette.heading),
        Span::styled(format!(" {}", "\u{2500}".repeat(rest)), palette.dim),
    ])
}

/// The titles of the columns; the one that it is sorted by, if any, stands out and tells the way.
fn titles<'a, R>(
    columns: &[Column<R>],
    kept: &[usize],
    widths: &[u16],
    sort: Option<(usize, bool)>,
    palette: &Palette,
) -> Line<'a> {
    let cell = |&at: &usize| {
        let cell = text::aligned(columns[at].title, columns[at].is_text, widths[at]);
        match sort {
            Some((by, _)) if by == at => Span::styled(cell, palette.chosen),
            _ => Span::styled(cell, palette.dim),
        }
    };
    spaced(kept.iter().map(cell))
}

fn row<'a, R>(
    columns: &[Column<R>],
    row: &R,
    kept: &[usize],
    widths: &[u16],
    style: impl Fn(&Column<R>) -> Style,
) -> Line<'a> {
    let cell = |&at: &usize| {
        let column = &columns[at];
        let cell = text::aligned(&(column.show)(row), column.is_text, widths[at]);
        Span::styled(cell, style(column))
    };
    spaced(kept.iter().map(cell))
}

fn spaced<'a>(cells: impl Iterator<Item = Span<'a>>) -> Line<'a> {
    let mut spans = Vec::new();
    for cell in cells {
        if !spans.is_empty() {
            spans.push(Span::raw(text::gap()));
        }
        spans.push(cell);
    }
    Line::from(spans)
}

/// What the keys do.
fn key_line<'a>(screen: &Screen, palette: &Palette) -> Line<'a> {
    let order = if screen.is_reversed {
        "falling"
    } else {
        "rising"
    };
    let sort = format!("sort: {}, {order}", SHARDS[screen.sort].title);
    let keys = [
        ("q", "quit".to_owned()),
        ("\u{2190}\u{2192}", sort),
        ("r", "reverse".to_owned()),
        ("\u{2191}\u{2193}", "scroll".to_owned()),
        ("Tab", "connections".to_owned()),
    ];
    let mut spans = Vec::new();
    for (key, what) in keys {
        spans.push(Span::styled(key, palette.heading));
        spans.push(Span::styled(format!(" {what}  "), palette.dim));
    }
    Line::from(spans)
}

#[cfg(test)]
mod tests;
