//! Tables that fit: first long texts are shortened, then the columns that matter least are left out. Nothing is wrapped.

use crate::output::{Style, Surface, printable};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
const GAP: usize = 2;

/// Which side a column's texts stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    title: &'static str,
    side: Side,
    /// Where there is no room, columns go in the order of this number, the largest first; 0 stays.
    leaves: u8,
    /// The narrowest that its texts are still worth reading; none when they are never cut.
    least: Option<usize>,
}

impl Column {
    /// One that stays.
    pub const fn new(title: &'static str) -> Column {
        Column { title, side: Side::Left, leaves: 0, least: None }
    }
    /// Numbers.
    pub const fn right(mut self) -> Column {
        self.side = Side::Right;
        self
    }
    /// One that goes when there is no room: larger numbers go first.
    pub const fn leaves(mut self, order: u8) -> Column {
        self.leaves = order;
        self
    }
    /// One whose texts may be cut down to so many columns.
    pub const fn cut_to(mut self, least: usize) -> Column {
        self.least = Some(least);
        self
    }
}

/// A text in a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// In a style.
    pub fn styled(text: impl AsRef<str>, style: Style) -> Cell {
        Cell { text: printable(text.as_ref()), style }
    }
    /// A state or a phase, coloured by its meaning.
    pub fn word(word: &str) -> Cell {
        Cell::styled(word, Style::of_word(word))
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::styled(text, Style::Plain)
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    /// With these columns.
    pub fn new(columns: impl Into<Vec<Column>>) -> Table {
        Table { columns: columns.into(), rows: Vec::new(), indent: 0 }
    }

    /// Set off from the left.
    pub fn indented(mut self, columns: usize) -> Table {
        self.indent = columns;
        self
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let mut cells = cells.into();
        cells.resize(self.columns.len(), Cell::default());
        self.rows.push(cells);
    }

    /// Whether it has no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line ended. Columns without any text are left out.
    pub fn draw(&self, surface: Surface) -> String {
        let widths = self.widths(surface.width.map(|width| width.saturating_sub(self.indent)));
        let titles: Vec<Cell> = self.columns.iter().map(|column| Cell::styled(column.title, Style::Faint)).collect();
        let mut drawn = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let line = self.draw_row(row, &widths, surface.colour);
            drawn.push_str(&" ".repeat(self.indent));
            drawn.push_str(line.trim_end());
            drawn.push('\n');
        }
        drawn
    }

    fn draw_row(&self, row: &[Cell], widths: &[Option<usize>], colour: bool) -> String {
        let shown = self.columns.iter().zip(row).zip(widths);
        let cells = shown.filter_map(|((column, cell), width)| {
            let text = cut(&cell.text, (*width)?);
            let fill = " ".repeat((*width)?.saturating_sub(text.width()));
            let painted = cell.style.paint(&text, colour);
            Some(match column.side {
                Side::Left => painted + &fill,
                Side::Right => fill + &painted,
            })
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP))
    }

    /// How wide each column is shown; none when it is left out.
    fn widths(&self, room: Option<usize>) -> Vec<Option<usize>> {
        let natural = |(index, column): (usize, &Column)| {
            let widest = self.rows.iter().map(|row| row[index].text.width()).max().unwrap_or(0);
            let is_empty = widest == 0 && !self.rows.is_empty();
            (!is_empty).then(|| widest.max(column.title.width()))
        };
        let mut widths: Vec<Option<usize>> = self.columns.iter().enumerate().map(natural).collect();
        let Some(room) = room else { return widths };
        while let Some(excess) = excess(&widths, room) {
            // Cut what may be cut, as far as needed; else leave a column out; else cut what should not be cut.
            let cuttable = |(index, column): (usize, &Column)| {
                let slack = widths[index]?.saturating_sub(column.least?.max(column.title.width()));
                (slack > 0).then_some((slack, index))
            };
            let candidates: Vec<(usize, usize)> = self.columns.iter().enumerate().filter_map(cuttable).collect();
            if candidates.iter().map(|(slack, _)| slack).sum::<usize>() >= excess {
                take(&mut widths, candidates, excess);
                break;
            }
            let going = self.columns.iter().enumerate().filter(|(index, _)| widths[*index].is_some());
            match going.max_by_key(|(index, column)| (column.leaves, *index)) {
                Some((index, column)) if column.leaves > 0 => widths[index] = None,
                _ => {
                    let all = widths
                        .iter()
                        .enumerate()
                        .filter_map(|(index, width)| Some(((*width)?.saturating_sub(1), index)));
                    let all = all.collect();
                    take(&mut widths, all, excess);
                    break;
                }
            }
        }
        widths
    }
}

/// By how much it is too wide.
fn excess(widths: &[Option<usize>], room: usize) -> Option<usize> {
    let shown = widths.iter().flatten();
    let total = shown.clone().sum::<usize>() + GAP * shown.count().saturating_sub(1);
    total.checked_sub(room).filter(|excess| *excess > 0)
}

/// Takes columns away where there is most to take, one by one.
fn take(widths: &mut [Option<usize>], mut slack: Vec<(usize, usize)>, excess: usize) {
    for _ in 0..excess {
        let Some((most, index)) = slack.iter_mut().max_by_key(|(left, _)| *left).filter(|(left, _)| *left > 0) else {
            return;
        };
        *most -= 1;
        if let Some(width) = &mut widths[*index] {
            *width -= 1;
        }
    }
}

/// At most so many columns of a text, with `…` where something is missing.
pub fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > columns {
            break;
        }
        kept.push(c);
    }
    if columns > 0 {
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Table {
        let mut table = Table::new([
            Column::new("JOB"),
            Column::new("NODE").leaves(2),
            Column::new("REV").right().leaves(3),
            Column::new("HEALTH"),
            Column::new("NEVER"),
            Column::new("MESSAGE").leaves(1).cut_to(12),
        ]);
        let message = "the check http GET :8080/healthz failed 3 times in a row; the last answer was: 503 not yet";
        table.row(["shop/production/web.1".into(), "node-a".into(), "r7".into(), Cell::word("healthy")]);
        table.row([
            "shop/production/web.2".into(),
            "node-b".into(),
            "r7".into(),
            Cell::word("unhealthy"),
            "".into(),
            message.into(),
        ]);
        table
    }

    fn at(width: usize) -> String {
        jobs().draw(Surface { width: Some(width), colour: false })
    }

    #[test]
    fn a_wide_terminal_cuts_only_the_long_text() {
        assert_eq!(
            at(120),
            "\
JOB                    NODE    REV  HEALTH     MESSAGE
shop/production/web.1  node-a   r7  healthy
shop/production/web.2  node-b   r7  unhealthy  the check http GET :8080/healthz failed 3 times in a row; the last answe…
"
        );
        assert_eq!(
            at(80),
            "\
JOB                    NODE    REV  HEALTH     MESSAGE
shop/production/web.1  node-a   r7  healthy
shop/production/web.2  node-b   r7  unhealthy  the check http GET :8080/healthz…
"
        );
    }

    #[test]
    fn a_narrow_terminal_leaves_out_what_matters_least() {
        assert_eq!(
            at(40),
            "\
JOB                    HEALTH
shop/production/web.1  healthy
shop/production/web.2  unhealthy
"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_however_narrow_it_is() {
        for width in 1..130 {
            let drawn = at(width);
            // Two columns stay, and their gap.
            let widest = drawn.lines().map(|line| line.width()).max().unwrap_or(0);
            assert!(widest <= width.max(4), "{width}: {drawn}");
        }
    }

    #[test]
    fn what_is_no_terminal_gets_every_character() {
        assert!(jobs().draw(Surface::PLAIN).contains("503 not yet"));
    }

    #[test]
    fn colours_do_not_count_as_columns() {
        let plain = at(80);
        let painted = jobs().draw(Surface { width: Some(80), colour: true });
        let mut stripped = painted;
        for code in ["\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"] {
            stripped = stripped.replace(code, "");
        }
        let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&stripped), trimmed(&plain));
    }

    #[test]
    fn wide_characters_are_cut_by_their_columns() {
        assert_eq!(cut("名名名", 5), "名名…");
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 0), "");
    }
}
