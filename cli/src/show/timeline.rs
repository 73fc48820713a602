//! How a deployment went: when each slot reached each phase, and which job was up and served when.

use super::amount::span;
use super::table::{Cell, Column, Table};
use crate::output::{Style, Surface, printable, without_subject};
use lapstrake_api::view::{Deployment, SlotTimeline};
use unicode_width::UnicodeWidthStr as _;

/// What is shown of each slot, and in which order the moments leave a narrow terminal.
const MOMENTS: [Column; 7] = [
    Column::new("STARTED").right().leaves(2),
    Column::new("READY").right().leaves(3),
    Column::new("SWITCHED").right().leaves(1),
    Column::new("OVERLAPPING").right().leaves(6),
    Column::new("DRAINING").right().leaves(5),
    Column::new("STOPPED").right().leaves(4),
    Column::new("DONE").right(),
];

/// Bars shorter than this show nothing, longer ones show no more.
const BAR_COLUMNS: std::ops::RangeInclusive<usize> = 16..=72;

/// More slots than this make more picture than story.
const MAX_BARS: usize = 16;

/// The moments as a table, and the jobs' lives as bars.
pub fn timeline(view: &Deployment, surface: Surface) -> String {
    if view.slots.iter().all(|slot| slot.reached.is_empty()) {
        return String::new();
    }
    let mut columns = vec![Column::new("SLOT"), Column::new("NODE").leaves(8), Column::new("END").leaves(7)];
    columns.extend(MOMENTS);
    let mut table = Table::new(columns).indented(2);
    for slot in &view.slots {
        let moment = |phase: &str| at(view, slot, phase).map(span).unwrap_or_default();
        // Without an old job nothing overlaps and nothing drains.
        let beside = |phase: &str| if slot.old.is_some() { moment(phase) } else { String::new() };
        let stopped = slot.stopped_ms.map(|at| span(at.saturating_sub(view.created_ms))).unwrap_or_default();
        let end = if slot.phase == "done" { Cell::default() } else { Cell::word(&slot.phase) };
        table.row([
            (&slot.slot).into(),
            (&slot.node).into(),
            end,
            moment("starting").into(),
            moment("ready").into(),
            moment("switched").into(),
            beside("overlapping").into(),
            beside("draining").into(),
            stopped.into(),
            moment("done").into(),
        ]);
    }
    let head = format!("{}  deployment {}, times since it was asked for", printable(&view.service), view.number);
    let head = super::table::cut(&head, surface.width.unwrap_or(usize::MAX));
    let (head, table) = (Style::Strong.paint(&head, surface.colour), table.draw(surface));
    format!("\n{head}\n{table}{}{}\n", answers(view, surface), bars(view, surface))
}

/// What the checks of new jobs had to say against them, a line for each slot whose new job did not answer well at once.
fn answers(view: &Deployment, surface: Surface) -> String {
    let line = |slot: &SlotTimeline| {
        let answer = slot.bad_answer.as_ref()?;
        let said = match slot.good_ms {
            Some(at) => format!("good at {}, before that: {answer}", span(at.saturating_sub(view.created_ms))),
            None => format!("never good: {answer}"),
        };
        let line = format!("  {}  {}", printable(&slot.slot), printable(&said));
        Some(super::table::cut(&line, surface.width.unwrap_or(usize::MAX)) + "\n")
    };
    let lines: String = view.slots.iter().filter_map(line).collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// How it ended, in one sentence.
pub fn conclusion(view: &Deployment) -> String {
    let of = format!("deployment {} of {}", view.number, view.service);
    let took = took_ms(view).map(|ms| format!(" after {}", span(ms))).unwrap_or_default();
    let message = view.message.as_ref().map(|message| format!(": {}", without_subject(message, &view.service)));
    let message = message.unwrap_or_default();
    let sentence = match view.phase.as_str() {
        "complete" => match view.revision {
            Some(revision) => format!("{of} is complete{took}; r{revision} runs"),
            None => format!("{of} is complete{took}"),
        },
        "failed" => match view.from {
            Some(from) => format!("{of} failed{took}{message}; r{from} serves on"),
            None => format!("{of} failed{took}{message}"),
        },
        "cancelled" => match view.from {
            Some(from) => format!("{of} was cancelled{took}{message}; r{from} serves on"),
            None => format!("{of} was cancelled{took}{message}"),
        },
        "superseded" if view.message.is_some() => format!("{of} was superseded{took}{message}"),
        "superseded" => {
            format!("{of} was superseded by a newer one{took}; `lap deployments {}` shows it", view.service)
        }
        phase => format!("{of} is {phase}{took}{message}"),
    };
    printable(&sentence)
}

/// How long it took, when it has ended.
pub fn took_ms(view: &Deployment) -> Option<u64> {
    let last = view.reached.last().filter(|_| view.ended)?;
    Some(last.at_ms.saturating_sub(view.created_ms))
}

/// When a slot entered a phase, since the deployment was asked for. A node's clock may be behind the controller's.
fn at(view: &Deployment, slot: &SlotTimeline, phase: &str) -> Option<u64> {
    let moment = slot.reached.iter().find(|moment| moment.phase == phase)?;
    Some(moment.at_ms.saturating_sub(view.created_ms))
}

/// The two lives of a slot, each a list of spans with what they are drawn with.
struct Lives {
    old: Vec<(u64, u64, char)>,
    new: Vec<(u64, u64, char)>,
}

/// It has the traffic.
const SERVES: char = '█';
/// It is being started and checked.
const STARTS: char = '░';
/// It gets no new requests and keeps its open ones.
const OVERLAPS: char = '▓';
/// Its checks answer well for the first time.
const ANSWERS: char = '│';
/// It finishes what it has and ends.
const DRAINS: char = '▒';

fn lives(view: &Deployment, slot: &SlotTimeline, end: u64) -> Lives {
    let moment = |phase| at(view, slot, phase);
    let started = moment("starting").or(moment("pulling")).or(moment("accepted")).unwrap_or(0);
    let abandoned = moment("abandoned").unwrap_or(end);
    let back = moment("switched back");
    let done = moment("done").or(back).unwrap_or(end);
    let Some(switched) = moment("switched") else {
        let mut new = vec![(started, abandoned, STARTS)];
        new.extend(first_good(view, slot));
        return Lives { old: vec![(0, end, SERVES)], new };
    };
    let draining = moment("draining").unwrap_or(done);
    let mut old = vec![(0, switched, SERVES), (switched, draining, OVERLAPS), (draining, done, DRAINS)];
    let mut new = vec![(started, switched, STARTS)];
    new.extend(first_good(view, slot));
    new.push((switched, back.unwrap_or(end), SERVES));
    if let Some(back) = back {
        old.push((back, end, SERVES));
        new.push((back, back, DRAINS));
    }
    Lives { old, new }
}

/// The moment from which on a new job has only to stay well.
fn first_good(view: &Deployment, slot: &SlotTimeline) -> Option<(u64, u64, char)> {
    let at = slot.good_ms?.saturating_sub(view.created_ms);
    Some((at, at + 1, ANSWERS))
}

fn bars(view: &Deployment, surface: Surface) -> String {
    let all = view.slots.iter().flat_map(|slot| slot.reached.iter()).chain(&view.reached);
    let end = all.map(|moment| moment.at_ms.saturating_sub(view.created_ms)).max().unwrap_or(0);
    let names = view.slots.iter().map(|slot| slot.slot.width()).max().unwrap_or(0);
    // Two of indentation, the name, ` old`, two of gap, and the last column free.
    let room = surface.width.unwrap_or(100).saturating_sub(2 + names + 4 + 2 + 1);
    if end == 0 || room < *BAR_COLUMNS.start() || view.slots.len() > MAX_BARS {
        return String::new();
    }
    let columns = room.min(*BAR_COLUMNS.end());
    let mut drawn = format!("\n  {}  {}\n", " ".repeat(names + 4), axis(columns, end));
    for slot in view.slots.iter().filter(|slot| !slot.reached.is_empty()) {
        let lives = lives(view, slot, end);
        let name = printable(&slot.slot);
        let fill = " ".repeat(names.saturating_sub(name.width()));
        if slot.old.is_some() {
            drawn.push_str(&format!("  {name}{fill} old  {}\n", bar(&lives.old, columns, end)));
        }
        if slot.new.is_some() {
            drawn.push_str(&format!("  {name}{fill} new  {}\n", bar(&lives.new, columns, end)));
        }
    }
    let mut legend = format!("{SERVES} serves   {STARTS} starts   {OVERLAPS} keeps its open requests   {DRAINS} ends");
    if view.slots.iter().any(|slot| slot.good_ms.is_some()) {
        legend += &format!("   {ANSWERS} answers");
    }
    let legend = super::table::cut(&legend, columns + names + 4 + 2);
    drawn.push_str(&format!("  {}\n", Style::Faint.paint(&legend, surface.colour)));
    drawn
}

/// `0.0 s                 5.0 s               10.0 s`
fn axis(columns: usize, end: u64) -> String {
    let (first, middle, last) = (span(0), span(end / 2), span(end));
    let mut axis = first;
    let middle_at = (columns / 2).saturating_sub(middle.width() / 2);
    let last_at = columns.saturating_sub(last.width());
    if middle_at > axis.width() + 1 && middle_at + middle.width() < last_at {
        axis.push_str(&" ".repeat(middle_at - axis.width()));
        axis.push_str(&middle);
    }
    axis.push_str(&" ".repeat(last_at.saturating_sub(axis.width())));
    axis.push_str(&last);
    axis
}

/// A span however short has a cell, unless a later one needs it.
fn bar(spans: &[(u64, u64, char)], columns: usize, end: u64) -> String {
    let column = |at: u64| (at.min(end) as u128 * columns as u128 / u128::from(end.max(1))) as usize;
    let mut cells = vec![' '; columns];
    for (from, to, with) in spans.iter().filter(|(from, to, _)| from < to) {
        let first = column(*from).min(columns - 1);
        cells[first..column(*to).max(first + 1).min(columns)].fill(*with);
    }
    cells.into_iter().collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use lapstrake_api::view::Moment;

    const ASKED_MS: u64 = 1_800_000_000_000;

    fn moments(pairs: &[(&str, u64)]) -> Vec<Moment> {
        pairs.iter().map(|(phase, at)| Moment { phase: (*phase).into(), at_ms: ASKED_MS + at }).collect()
    }

    fn slot(number: u32, from: u64) -> SlotTimeline {
        let reached = [
            ("accepted", 100),
            ("pulling", 200),
            ("starting", 300),
            ("ready", 2_500),
            ("switched", 2_600),
            ("overlapping", 2_600),
            ("draining", 7_600),
            ("done", 8_000),
        ];
        SlotTimeline {
            slot: format!("web.{number}"),
            node: "node-a".into(),
            old: Some("old".into()),
            new: Some("new".into()),
            phase: "done".into(),
            reached: moments(&reached.map(|(phase, at)| (phase, at + from))),
            stopped_ms: Some(ASKED_MS + 7_700 + from),
            good_ms: None,
            bad_answer: None,
            message: None,
        }
    }

    /// Two slots, one after the other, without a fault.
    pub fn rolled() -> Deployment {
        Deployment {
            id: "1".into(),
            service: "shop/production/web".into(),
            number: 2,
            trigger: "deploy".into(),
            by: "admin".into(),
            why: String::new(),
            image: "web:2".into(),
            from: Some(1),
            revision: Some(2),
            strategy: "rolling".into(),
            canary: None,
            phase: "complete".into(),
            ended: true,
            message: None,
            created_ms: ASKED_MS,
            reached: moments(&[("queued", 0), ("resolving", 10), ("rolling", 50), ("complete", 16_000)]),
            slots: vec![slot(1, 0), slot(2, 8_000)],
        }
    }

    fn at_width(width: usize) -> String {
        timeline(&rolled(), Surface { width: Some(width), colour: false })
    }

    #[test]
    fn the_timeline_shows_the_planks_overlap() {
        assert_eq!(
            at_width(80),
            "
shop/production/web  deployment 2, times since it was asked for
  SLOT   STARTED   READY  SWITCHED  OVERLAPPING  DRAINING  STOPPED    DONE
  web.1    0.3 s   2.5 s     2.6 s        2.6 s     7.6 s    7.7 s   8.0 s
  web.2    8.3 s  10.5 s    10.6 s       10.6 s    15.6 s   15.7 s  16.0 s

             0.0 s                          8.0 s                        16.0 s
  web.1 old  ██████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒
  web.1 new   ░░░░░░░░░████████████████████████████████████████████████████████
  web.2 old  ███████████████████████████████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒
  web.2 new                                    ░░░░░░░░░███████████████████████
  █ serves   ░ starts   ▓ keeps its open requests   ▒ ends

"
        );
    }

    #[test]
    fn the_timeline_fits_wide_and_narrow_terminals() {
        for width in [20, 30, 40, 60, 80, 120] {
            let drawn = at_width(width);
            let widest = drawn.lines().map(|line| line.width()).max().unwrap_or(0);
            assert!(widest <= width, "{width}: {drawn}");
        }
        assert!(at_width(120).contains("NODE"));
        let narrow = at_width(40);
        assert!(narrow.contains("SWITCHED") && narrow.contains("DONE") && !narrow.contains("OVERLAPPING"), "{narrow}");
    }

    #[test]
    fn an_abandoned_replacement_shows_that_the_old_job_served_on() {
        let mut view = rolled();
        view.slots.truncate(1);
        view.slots[0].phase = "abandoned".into();
        view.slots[0].reached = moments(&[("accepted", 0), ("starting", 1_000), ("abandoned", 4_000)]);
        view.slots[0].stopped_ms = None;
        let drawn = timeline(&view, Surface { width: Some(60), colour: false });
        let old = drawn.lines().find(|line| line.contains("web.1 old")).expect("its bar");
        assert!(!old.contains(OVERLAPS) && !old.contains(DRAINS), "{drawn}");
        assert!(drawn.contains("abandoned"));
    }

    #[test]
    fn the_timeline_shows_when_a_new_job_answered_well_and_what_it_answered_before() {
        let mut view = rolled();
        view.slots.truncate(1);
        view.reached.truncate(2);
        view.slots[0].good_ms = Some(ASKED_MS + 1_400);
        view.slots[0].bad_answer = Some("status 503: starting".into());
        assert_eq!(
            timeline(&view, Surface { width: Some(80), colour: false }),
            "
shop/production/web  deployment 2, times since it was asked for
  SLOT   NODE    STARTED  READY  SWITCHED  OVERLAPPING  DRAINING  STOPPED   DONE
  web.1  node-a    0.3 s  2.5 s     2.6 s        2.6 s     7.6 s    7.7 s  8.0 s

  web.1  good at 1.4 s, before that: status 503: starting

             0.0 s                          4.0 s                         8.0 s
  web.1 old  █████████████████████▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▒▒▒▒
  web.1 new    ░░░░░░░░░│░░░░░░░░░█████████████████████████████████████████████
  █ serves   ░ starts   ▓ keeps its open requests   ▒ ends   │ answers

"
        );
        view.slots[0].good_ms = None;
        assert!(timeline(&view, Surface { width: None, colour: false }).contains("web.1  never good: status 503: st"));
    }

    #[test]
    fn every_end_has_its_sentence() {
        let mut view = rolled();
        assert_eq!(conclusion(&view), "deployment 2 of shop/production/web is complete after 16.0 s; r2 runs");
        view.phase = "failed".into();
        view.message = Some("web.1 on node-a: it exited".into());
        let failed = conclusion(&view);
        assert!(failed.contains("failed") && failed.ends_with("web.1 on node-a: it exited; r1 serves on"), "{failed}");
        view.phase = "superseded".into();
        assert!(conclusion(&view).contains("web.1 on node-a: it exited"), "what it says");
        view.message = None;
        assert!(conclusion(&view).contains("superseded by a newer one"));
    }
}
