//! What services and nodes use, now.

use super::Session;
use crate::address::Below;
use crate::args;
use crate::error::LapError;
use crate::output::Surface;
use crate::show::table::{Table, cut};
use crate::show::usage;
use crate::wait::Patience;
use lapstrake_api::view;
use std::io::{self, Write as _};
use std::time::Duration;

/// As often as nodes tell what they use.
const PERIOD: Duration = Duration::from_secs(2);

/// `lap top`.
pub async fn top(session: &mut Session, top: &args::Top) -> Result<(), LapError> {
    let output = session.output;
    let is_live = !top.once && !output.is_json() && output.stdout.width.is_some();
    if !is_live {
        return once(session, top).await;
    }
    let mut patience = Patience::new();
    let mut screen = Screen { drawn: 0 };
    loop {
        match table(session, top).await {
            Ok(table) => {
                patience.rewarded(&output);
                screen.draw(&table, output.stdout);
            }
            Err(LapError::Client(error)) if patience.was_rewarded() => {
                screen.drawn = 0;
                patience.tried(error, &output)?;
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PERIOD).await;
    }
}

async fn once(session: &mut Session, top: &args::Top) -> Result<(), LapError> {
    if session.output.is_json() {
        let answer = session.client.list(&address(top)).await?;
        return session.output.json(&answer);
    }
    let table = table(session, top).await?;
    session.output.table(&table)
}

fn address(top: &args::Top) -> String {
    if top.nodes { "/v1/nodes".into() } else { format!("/v1/jobs{}", Below::query(top.below.as_ref())) }
}

async fn table(session: &mut Session, top: &args::Top) -> Result<Table, LapError> {
    let answer = session.client.list(&address(top)).await?;
    if top.nodes {
        return Ok(usage::nodes(&answer.read::<Vec<view::Node>>()?));
    }
    let jobs: Vec<view::Job> = answer.read()?;
    let one = top.below.as_ref().and_then(Below::service).is_some();
    Ok(if one { usage::jobs(&jobs) } else { usage::services(&jobs) })
}

/// A table that is drawn over itself.
struct Screen {
    drawn: usize,
}

impl Screen {
    fn draw(&mut self, table: &Table, surface: Surface) {
        let (width, height) = crate::terminal::size().unwrap_or((0, 0));
        let width = if width > 0 { usize::from(width) } else { surface.width.unwrap_or(80) };
        let text = table.draw(Surface { width: Some(width), ..surface });
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // What has scrolled away cannot be drawn over.
        let room = usize::from(height.max(4)) - 1;
        if lines.len() > room {
            let hidden = lines.len() - (room - 1);
            lines.truncate(room - 1);
            lines.push(cut(&format!("… and {hidden} lines more"), width.saturating_sub(1)));
        }
        let mut drawing = if self.drawn > 0 { format!("\x1b[{}A\r", self.drawn) } else { String::new() };
        for line in &lines {
            drawing.push_str(&format!("\x1b[2K{}\n", crate::output::harmless(line)));
        }
        drawing.push_str("\x1b[J");
        // Nobody sees it: nothing else changes.
        let mut stdout = io::stdout().lock();
        let _ = stdout.write_all(drawing.as_bytes()).and_then(|()| stdout.flush());
        self.drawn = lines.len();
    }
}
