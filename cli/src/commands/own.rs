//! What `lap` knows of itself: no controller is asked.

use crate::args::Lap;
use crate::error::LapError;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::{self, Write};
use std::path::Path;

/// The name under which `lap` is called.
const NAME: &str = "lap";

/// `lap schema`.
pub fn schema() -> Result<(), LapError> {
    written(&format!("{:#}\n", lapstrake_api::spec::schema()))
}

/// `lap completion`.
pub fn completion(shell: Shell) -> Result<(), LapError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Lap::command(), NAME, &mut text);
    written(&String::from_utf8_lossy(&text))
}

/// `lap man`: `lap.1`, `lap-secret.1`, `lap-secret-set.1`, …
pub fn man(folder: &Path) -> Result<(), LapError> {
    let failed =
        |path: &Path, error: io::Error| LapError::Failed(format!("{} cannot be written: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (name, page) in pages() {
        let path = folder.join(name);
        std::fs::write(&path, page).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Every manual page with its file's name.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut root = Lap::command();
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, NAME, &mut pages);
    pages
}

fn add_pages(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = Man::new(command.clone()).title(name).render(&mut page);
    pages.push((format!("{name}.1"), page));
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        add_pages(verb, &format!("{name}-{}", verb.get_name()), pages);
    }
}

/// To stdout. A reader that has enough, as `head`, is no error.
fn written(text: &str) -> Result<(), LapError> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(LapError::Failed(format!("nothing can be written to stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_verb_has_a_manual_page_with_its_example() {
        let pages = pages();
        let names: BTreeSet<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), pages.len());
        for name in ["lap.1", "lap-apply.1", "lap-secret.1", "lap-secret-set.1", "lap-node-token-create.1"] {
            assert!(names.contains(name), "{name}: {names:?}");
        }
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).expect("text");
            assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        let set = pages.iter().find(|(name, _)| name == "lap-secret-set.1").expect("there");
        assert!(String::from_utf8_lossy(&set.1).contains("Example"));
    }

    #[test]
    fn every_shell_completes_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Lap::command(), NAME, &mut text);
            let text = String::from_utf8(text).expect("text");
            for verb in Lap::command().get_subcommands() {
                assert!(text.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}
