//! What people and pipes give: read up to a limit, and from a terminal without showing it where it is secret.

use crate::error::LapError;
use crate::output::ask;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;
use std::time::Duration;

/// A terminal hands on what was pasted within this time; nobody types a second line in it.
const PASTED_WITHIN: Duration = Duration::from_millis(50);

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
    // What was pasted comes at once: a second line of it would be lost, or read by the shell.
    std::thread::sleep(PASTED_WITHIN);
    let more = rustix::io::ioctl_fionread(&stdin).unwrap_or(0) > 0;
    let restored = tcsetattr(&stdin, OptionalActions::Flush, &before);
    ask("\n");
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    if more {
        let said =
            "more than one line was given; nothing was read (a text of several lines comes from a file or a pipe)";
        return Err(LapError::Wrong(said.into()));
    }
    Ok(Some(text))
}
