//! What happened, line by line: a hash of all lines, and the last ones for whoever has to find out why.

use std::collections::VecDeque;
use std::fmt::Write;

/// So many lines are kept: what led to a broken promise is rarely farther away.
const LINES_KEPT: usize = 60;

/// The lines of one run.
pub struct Trace {
    hash: u64,
    lines: u64,
    last: VecDeque<String>,
    kept: usize,
}

impl Trace {
    /// Without a line. With `LAPSTRAKE_SIM_TRACE` set, all lines are kept.
    pub fn new() -> Trace {
        let kept = if std::env::var_os("LAPSTRAKE_SIM_TRACE").is_some() { usize::MAX } else { LINES_KEPT };
        // The offset basis of FNV-1a with 64 bits.
        Trace { hash: 0xcbf2_9ce4_8422_2325, lines: 0, last: VecDeque::new(), kept }
    }

    /// Adds a line.
    pub fn line(&mut self, at: u64, said: std::fmt::Arguments<'_>) {
        let mut line =
            if self.last.len() >= self.kept { self.last.pop_front().unwrap_or_default() } else { String::new() };
        line.clear();
        // Writing to a String does not fail.
        let _ = write!(line, "{:>9.3} {said}", at as f64 / 1_000.0);
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.lines += 1;
        self.last.push_back(line);
    }

    /// The same for the same lines.
    pub fn hash(&self) -> u64 {
        self.hash ^ self.lines
    }

    /// The last lines.
    pub fn tail(&self) -> String {
        self.last.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}
