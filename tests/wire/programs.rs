//! Which programs the daemons and `lap` ever start, read from their sources: those listed here, and never a shell. A text of somebody
//! else can become a command only where a command is started, so every such place is in the list here with its reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the sources of what runs on people's machines are. What is not here is a test or a sample.
const SOURCES: [&str; 12] = [
    "agent/src",
    "api/src",
    "cli/src",
    "controller/src",
    "core/src",
    "crash/src",
    "log/src",
    "metrics/src",
    "pki/src",
    "proto",
    "proxy/src",
    "unit/src",
];

/// A place where a program is started.
struct Start {
    file: &'static str,
    /// As it stands in the source, so that it is a word of ours and no variable.
    program: &'static str,
    why: &'static str,
}

/// All of them.
const STARTS: [Start; 4] = [
    Start {
        file: "agent/src/network/nft.rs",
        program: "\"nft\"",
        why: "The kernel's rules are set by the package's own program: it knows what the kernel's version can. Its arguments are \
          ours, the rules go to its stdin, and the names in them are of the type `Bridge`.",
    },
    Start {
        file: "agent/src/units.rs",
        program: "\"systemctl\"",
        why: "`lapstrake-agent join` starts the units of agent and proxy. Its arguments are words of this file.",
    },
    Start {
        file: "cli/src/commands/setup.rs",
        program: "\"lapstrake-agent\"",
        why: "`lap setup` makes this machine a node: that is the agent's own command, with its own rights and words. The join \
              token goes to its stdin, read as one before it is passed.",
    },
    Start {
        file: "proxy/src/main.rs",
        program: "binary",
        why: "`lapstrake-proxy --replace` starts its own binary, by the path that the kernel knows it under, as its successor; the \
              one argument that is not a word of ours is the path of the configuration that it was given itself.",
    },
];

/// What may be used of the standard library's and tokio's `process` besides starting something.
const HARMLESS: [&str; 5] = ["ExitCode", "Stdio", "abort", "exit", "id"];

/// What starts a program without `Command`.
const OTHER_WAYS: [&str; 9] =
    ["CommandExt", "execv", "execl", "fexecve", "posix_spawn", "fork(", "vfork", "clone3", "libc::system"];

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Files by their path below the workspace, with their text.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in SOURCES {
        sources_below(&root.join(folder), &mut files);
    }
    let read = |path: PathBuf| {
        let below = path.strip_prefix(root).expect("below the root").to_str().expect("UTF-8").to_owned();
        let text = fs::read_to_string(&path).expect("a source");
        // Comments may speak of what the code does not do.
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        (below, code.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(read).collect()
}

/// What the code takes from a module called `process`: `process::id`, `process::{Command, Stdio}`.
fn taken_from_process(code: &str) -> BTreeSet<String> {
    let mut taken = BTreeSet::new();
    for (at, _) in code.match_indices("process::") {
        let rest = code[at + "process::".len()..].trim_start();
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '*')).next().unwrap_or_default(),
        };
        taken.extend(names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()));
    }
    // The module as a whole, under its own or another name.
    for whole in ["::process;", "::process as", "::{process", ", process,", ", process}"] {
        if code.lines().any(|line| line.trim_start().starts_with("use ") && line.contains(whole)) {
            taken.insert("*".into());
        }
    }
    taken
}

/// Everything in a source that starts a program and is not in the list.
fn complaints(file: &str, code: &str, starts: &[Start]) -> Vec<String> {
    let listed: Vec<&Start> = starts.iter().filter(|start| start.file == file).collect();
    let mut complaints = Vec::new();
    for name in taken_from_process(code) {
        if !HARMLESS.contains(&name.as_str()) && (name != "Command" || listed.is_empty()) {
            complaints.push(format!("{file} takes `{name}` from `process`"));
        }
    }
    for way in OTHER_WAYS.iter().filter(|way| code.contains(**way)) {
        complaints.push(format!("{file} says `{way}`"));
    }
    for (at, begin) in code.match_indices("Command::new(") {
        let program = code[at + begin.len()..].split(')').next().unwrap_or_default();
        if !listed.iter().any(|start| start.program == program) {
            complaints.push(format!("{file} starts `{program}`"));
        }
    }
    complaints
}

#[test]
fn every_program_that_is_ever_started_is_in_the_list_and_none_is_a_shell() {
    let sources = sources();
    assert!(sources.len() > 200, "only {} sources were found", sources.len());
    let found: Vec<String> = sources.iter().flat_map(|(file, code)| complaints(file, code, &STARTS)).collect();
    assert!(
        found.is_empty(),
        "a program is started that is not in the list of tests/wire/programs.rs; if it has to be, list it there with its \
         reason, and say so in docs/OPERATIONS.md:\n{}",
        found.join("\n")
    );
}

#[test]
fn every_listed_program_is_still_started_and_has_a_reason() {
    let sources = sources();
    for start in STARTS {
        let code = sources.iter().find(|(file, _)| file == start.file).map(|(_, code)| code.as_str());
        let call = format!("Command::new({})", start.program);
        assert!(code.is_some_and(|code| code.contains(&call)), "{} no longer has {call}", start.file);
        assert!(start.why.len() > 40, "{} has no reason", start.file);
        let shells = ["sh", "bash", "dash", "env", "sudo", "nsenter"];
        assert!(!shells.contains(&start.program.trim_matches('"')), "{} starts a shell", start.file);
    }
}

#[test]
fn a_program_that_somebody_adds_is_noticed_however_it_is_started() {
    for code in [
        "let x = std::process::Command::new(\"sh\").arg(\"-c\");",
        "use tokio::process::Command;",
        "use std::process::{Command as Run, Stdio};",
        "use std::process::{\n    Child,\n    Command,\n};",
        "use std::process;\nfn f() { process::Command::new(\"x\"); }",
        "use std::{fs, process};",
        "use tokio::process as p;",
        "use std::process::*;",
        "use std::os::unix::process::CommandExt;",
        "nix::unistd::execvp(&a, &b);",
        "unsafe { libc::system(text.as_ptr()) };",
        "unsafe { nix::unistd::fork() };",
    ] {
        assert!(!complaints("agent/src/new.rs", code, &STARTS).is_empty(), "{code}");
    }
    let listed = STARTS[0].file;
    assert!(complaints(listed, "use tokio::process::Command;\nCommand::new(\"nft\")", &STARTS).is_empty());
    assert!(
        !complaints(listed, "use tokio::process::Command;\nCommand::new(program)", &STARTS).is_empty(),
        "a variable"
    );
    assert!(!complaints(listed, "Command::new(\"sh\")", &STARTS).is_empty(), "another program in a listed file");
    assert!(complaints("cli/src/main.rs", "use std::process::ExitCode;\nstd::process::id();", &STARTS).is_empty());
}
