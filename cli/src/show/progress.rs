//! How a deployment goes: lines that redraw on a terminal, one line per change elsewhere. Both go to stderr.

use super::amount::{span, span_of};
use super::table::cut;
use crate::output::{Style, Surface, harmless, printable, terminal_size, without_subject};
use lapstrake_api::view::{Deployment, SlotTimeline};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};
use unicode_width::UnicodeWidthStr as _;

/// The way of a replacement, in order.
const WAY: [&str; 8] = ["accepted", "pulling", "starting", "ready", "switched", "overlapping", "draining", "done"];

/// Below so many columns there is no room for the bar.
const BAR_NEEDS: usize = 60;

/// Lines at the bottom of a terminal, drawn again and again.
pub struct Live {
    surface: Surface,
    drawn: usize,
    /// When each slot was first seen in the phase that it is in.
    since: BTreeMap<(String, String), (String, Instant)>,
}

impl Live {
    /// Nothing is drawn yet.
    pub fn new(surface: Surface) -> Live {
        Live { surface, drawn: 0, since: BTreeMap::new() }
    }

    /// Draws over what was drawn before: each deployment with the time since it was asked for.
    pub fn draw(&mut self, views: &[(&Deployment, Duration)]) {
        let (width, height) = terminal_size().unwrap_or((self.surface.width.unwrap_or(80), 24));
        let now = Instant::now();
        let mut lines = Vec::new();
        for (view, age) in views {
            for slot in &view.slots {
                let since = self.since.entry((view.service.clone(), slot.slot.clone()));
                let since = since.or_insert_with(|| (slot.phase.clone(), now));
                if since.0 != slot.phase {
                    *since = (slot.phase.clone(), now);
                }
            }
            let in_phase = |slot: &str| {
                let since = self.since.get(&(view.service.clone(), slot.to_owned()));
                since.map_or(Duration::ZERO, |(_, since)| now.duration_since(*since))
            };
            lines.extend(lines_of(view, *age, &in_phase, Surface { width: Some(width), ..self.surface }));
        }
        // What has scrolled away cannot be drawn over.
        let room = height.saturating_sub(1).max(1);
        if lines.len() > room {
            let hidden = lines.len() - (room - 1);
            lines.truncate(room - 1);
            lines.push(cut(&format!("  … and {hidden} lines more"), width.saturating_sub(1)));
        }
        let mut stderr = io::stderr().lock();
        let up = if self.drawn > 0 { format!("\x1b[{}A\r", self.drawn) } else { String::new() };
        let mut text = up;
        for line in &lines {
            text.push_str(&format!("\x1b[2K{}\n", harmless(line)));
        }
        text.push_str("\x1b[J");
        // Nobody sees it: nothing else changes.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        self.drawn = lines.len();
    }

    /// What was drawn stays.
    pub fn leave(&mut self) {
        self.drawn = 0;
    }
}

/// A deployment's line, and one for each of its slots. None is wider than the terminal.
fn lines_of(view: &Deployment, age: Duration, in_phase: &dyn Fn(&str) -> Duration, surface: Surface) -> Vec<String> {
    // In the last column some terminals wrap.
    let width = surface.width.map_or(usize::MAX, |width| width.saturating_sub(1));
    let waits = waits_for(view).map(|message| format!(": {message}")).unwrap_or_default();
    let head = format!(
        "{}  deployment {} is {}, {}{waits}",
        printable(&view.service),
        view.number,
        printable(&view.phase),
        span_of(age)
    );
    let mut lines = vec![Style::Strong.paint(&cut(&head, width), surface.colour)];
    let names = view.slots.iter().map(|slot| name_of(slot).width()).max().unwrap_or(0);
    for slot in &view.slots {
        lines.push(slot_line(slot, names, in_phase(&slot.slot), width, surface.colour));
    }
    lines
}

/// What the deployment as a whole waits for. While a slot is on its way, that slot's own line says it.
fn waits_for(view: &Deployment) -> Option<String> {
    let is_on_its_way = |slot: &SlotTimeline| slot.phase != "waiting" && !has_ended(slot);
    let message = view.message.as_ref().filter(|_| !view.ended && !view.slots.iter().any(is_on_its_way))?;
    Some(without_subject(message, &view.service))
}

fn has_ended(slot: &SlotTimeline) -> bool {
    matches!(slot.phase.as_str(), "done" | "abandoned" | "switched back")
}

fn name_of(slot: &SlotTimeline) -> String {
    printable(&if slot.node.is_empty() { slot.slot.clone() } else { format!("{} on {}", slot.slot, slot.node) })
}

fn slot_line(slot: &SlotTimeline, names: usize, in_phase: Duration, width: usize, colour: bool) -> String {
    let name = name_of(slot);
    let fill = " ".repeat(names.saturating_sub(name.width()));
    let bar = if width >= BAR_NEEDS { format!("{}  ", bar(slot)) } else { String::new() };
    let time =
        if has_ended(slot) || slot.phase == "waiting" { String::new() } else { format!(" {}", span_of(in_phase)) };
    let waits = slot.message.as_ref().map(|message| format!("  {}", printable(message))).unwrap_or_default();
    let before = format!("  {name}{fill}  {bar}");
    let phase = printable(&slot.phase);
    let rest = format!("{time}{waits}");
    let room = width.saturating_sub(before.width());
    if room < phase.width() {
        return cut(&format!("{before}{phase}"), width);
    }
    let rest = cut(&rest, room - phase.width());
    format!("{before}{}{rest}", Style::of_word(&phase).paint(&phase, colour))
}

/// One cell for each phase of the way that was reached.
fn bar(slot: &SlotTimeline) -> String {
    let reached = |phase: &&str| slot.phase == **phase || slot.reached.iter().any(|moment| moment.phase == **phase);
    let count = WAY.iter().rposition(reached).map_or(0, |index| index + 1);
    format!("{}{}", "━".repeat(count), "╌".repeat(WAY.len() - count))
}

/// Lines for a log: each phase once, with its time since the deployment was asked for.
#[derive(Debug, Default)]
pub struct Plain {
    /// By service and slot (empty for the deployment itself): how many phases were told, and the last message.
    told: BTreeMap<(String, String), (usize, String)>,
}

impl Plain {
    /// Tells what is new of each deployment, with the time since it was asked for.
    pub fn tell(&mut self, views: &[(&Deployment, Duration)]) {
        let mut stderr = io::stderr().lock();
        for line in views.iter().flat_map(|(view, age)| self.news(view, *age)) {
            let _ = writeln!(stderr, "{}", harmless(&line));
        }
    }

    fn news(&mut self, view: &Deployment, age: Duration) -> Vec<String> {
        let service = printable(&view.service);
        let mut news: Vec<(u64, String)> = Vec::new();
        let since = |at_ms: u64| at_ms.saturating_sub(view.created_ms);
        let age = age.as_millis().try_into().unwrap_or(u64::MAX);

        let (told, last) = self.told.entry((view.service.clone(), String::new())).or_default();
        for moment in view.reached.iter().skip(*told) {
            let phase = printable(&moment.phase);
            news.push((since(moment.at_ms), format!("{service}: deployment {} is {phase}", view.number)));
        }
        *told = view.reached.len();
        if let Some(message) = changed(last, waits_for(view).as_ref()) {
            news.push((age, format!("{service}: {message}")));
        }
        for slot in &view.slots {
            let name = name_of(slot);
            let (told, last) = self.told.entry((view.service.clone(), slot.slot.clone())).or_default();
            // Without an old job nothing overlaps and nothing drains.
            let is_news = |phase: &str| slot.old.is_some() || !matches!(phase, "overlapping" | "draining");
            for moment in slot.reached.iter().skip(*told).filter(|moment| is_news(&moment.phase)) {
                news.push((since(moment.at_ms), format!("{service}: {name} is {}", printable(&moment.phase))));
            }
            *told = slot.reached.len();
            if let Some(message) = changed(last, slot.message.as_ref()) {
                news.push((age, format!("{service}: {name}: {message}")));
            }
        }
        news.sort_by_key(|(at, _)| *at);
        news.into_iter().map(|(at, line)| format!("{:>9}  {line}", span(at))).collect()
    }
}

/// The message, if it says something new: numbers in it that count up do not.
fn changed(last: &mut String, message: Option<&String>) -> Option<String> {
    let message = message?;
    let without_numbers: String = message.chars().filter(|c| !c.is_ascii_digit()).collect();
    if *last == without_numbers {
        return None;
    }
    *last = without_numbers;
    Some(printable(message))
}

#[cfg(test)]
mod tests {
    use super::super::timeline::tests::rolled;
    use super::*;
    use lapstrake_api::view::Moment;

    fn drawn(view: &Deployment, width: usize) -> Vec<String> {
        let surface = Surface { width: Some(width), colour: false };
        lines_of(view, Duration::from_millis(4_200), &|_| Duration::from_millis(1_500), surface)
    }

    fn under_way() -> Deployment {
        let mut view = rolled();
        view.phase = "rolling".into();
        view.ended = false;
        view.message = Some("shop/production/web: web.1 waits: its job on node-a is overlapping".into());
        view.slots[0].phase = "overlapping".into();
        view.slots[0].reached.truncate(6);
        view.slots[1].phase = "waiting".into();
        view.slots[1].reached.clear();
        view
    }

    #[test]
    fn each_slot_has_a_line_with_its_way() {
        assert_eq!(
            drawn(&under_way(), 100),
            [
                "shop/production/web  deployment 2 is rolling, 4.2 s",
                "  web.1 on node-a  ━━━━━━╌╌  overlapping 1.5 s",
                "  web.2 on node-a  ╌╌╌╌╌╌╌╌  waiting",
            ]
        );
    }

    #[test]
    fn before_any_slot_moves_the_deployment_says_what_it_waits_for() {
        let mut view = under_way();
        view.slots.clear();
        view.message = Some("shop/production/web waits: no node is attached".into());
        assert_eq!(drawn(&view, 100), ["shop/production/web  deployment 2 is rolling, 4.2 s: no node is attached"]);
    }

    #[test]
    fn lines_shrink_with_the_terminal() {
        let mut view = under_way();
        view.slots[0].message = Some("the proxy has not acknowledged the table yet, which takes a while".into());
        for width in 2..130 {
            for line in drawn(&view, width) {
                assert!(line.width() < width, "{width}: {line}");
            }
        }
        assert_eq!(drawn(&view, 40)[2], "  web.2 on node-a  waiting");
    }

    #[test]
    fn elsewhere_each_phase_is_told_once_in_order() {
        let mut plain = Plain::default();
        let begun = under_way();
        let told = plain.news(&begun, Duration::from_secs(4));
        assert_eq!(told[0], "    0.0 s  shop/production/web: deployment 2 is queued");
        let ready = "    2.5 s  shop/production/web: web.1 on node-a is ready";
        assert!(told.iter().any(|line| line == ready), "{told:#?}");
        assert!(plain.news(&begun, Duration::from_secs(5)).is_empty());
        let mut later = begun.clone();
        let at_ms = later.created_ms + 7_600;
        later.slots[0].reached.push(Moment { phase: "draining".into(), at_ms });
        assert_eq!(
            plain.news(&later, Duration::from_secs(8)),
            ["    7.6 s  shop/production/web: web.1 on node-a is draining"]
        );
    }

    #[test]
    fn a_message_whose_number_counts_up_is_told_once() {
        let mut last = String::new();
        assert!(changed(&mut last, Some(&"silent for 5 s".to_owned())).is_some());
        assert!(changed(&mut last, Some(&"silent for 16 s".to_owned())).is_none());
        assert!(changed(&mut last, Some(&"it is back".to_owned())).is_some());
    }
}
