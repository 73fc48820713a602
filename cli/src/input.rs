//! What people and pipes give: read up to a limit, and from a terminal without showing it where it is secret.

use crate::error::LapError;
use crate::output::ask;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

/// At most so many bytes of a file, or of stdin for `-`.
pub fn read_up_to(file: &Path, limit: u64) -> Result<Vec<u8>, LapError> {
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|source| LapError::Unreadable { file: file.display().to_string(), source })?;
    Ok(bytes)
}

/// A line from the person at the terminal, who does not see it; none where no terminal is.
pub fn hidden_line(question: &str) -> Result<Option<String>, LapError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    ask(question);
    let failed = |source: io::Error| LapError::Unreadable { file: "the terminal".into(), source };
    let before = tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let mut text = String::new();
    let read = stdin.lock().read_line(&mut text);
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    ask("\n");
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    Ok(Some(text))
}
