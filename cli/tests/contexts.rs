//! Which controller `lap` asks when several are known.

mod support;

use std::path::Path;
use support::{FakeController, code, lap_at_home, run, stderr, stdout};

const VERSION: &str = r#"{"version":"0.1.0","cluster":"c","organization":"home"}"#;

/// A controller that one can log in to.
fn controller() -> FakeController {
    let controller = FakeController::start();
    controller.answer("GET /v1/version", 200, VERSION).answer("GET /v1/apps", 200, "[]");
    controller
}

fn log_in(home: &Path, to: &FakeController, more: &[&str]) -> std::process::Output {
    run(&mut lap_at_home(home, &[&["login", &to.url(), &to.token()], more].concat()))
}

/// Each stored context with its address; the current one with a star.
fn stored(home: &Path) -> Vec<String> {
    let shown = run(&mut lap_at_home(home, &["context", "ls", "-o", "json"]));
    let list: Vec<serde_json::Value> = serde_json::from_str(&stdout(&shown)).expect("JSON");
    let word = |context: &serde_json::Value| {
        let star = if context["current"] == true { "*" } else { "" };
        format!("{star}{} {}", context["name"].as_str().expect("a name"), context["url"].as_str().expect("an address"))
    };
    list.iter().map(word).collect()
}

#[test]
fn a_context_on_the_command_line_comes_before_address_and_token_of_the_environment() {
    let (environment, named) = (controller(), controller());
    let home = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&log_in(home.path(), &named, &["--context", "staging"])), 0);
    let asked_by_login = named.asked().len();
    for arguments in [["--context", "staging", "app", "ls"], ["app", "ls", "--context", "staging"]] {
        let mut command = lap_at_home(home.path(), &arguments);
        let output = run(command.env("LAP_URL", environment.url()).env("LAP_TOKEN", environment.token()));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    assert_eq!(named.asked().len(), asked_by_login + 2);
    assert_eq!(environment.asked().len(), 0, "the production of a shell's environment was not meant");

    let mut command = lap_at_home(home.path(), &["app", "ls"]);
    let environment_says =
        [("LAP_URL", environment.url()), ("LAP_TOKEN", environment.token()), ("LAP_CONTEXT", "staging".to_owned())];
    assert_eq!(code(&run(command.envs(environment_says))), 0);
    assert_eq!(environment.asked().len(), 1, "of the environment's own words the address is the more exact one");
}

#[test]
fn a_login_to_another_controller_takes_no_context_away_unless_it_is_told_to() {
    let (first, second) = (controller(), controller());
    let home = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&log_in(home.path(), &first, &[])), 0);
    let output = log_in(home.path(), &second, &[]);
    assert_eq!(code(&output), 3, "{}", stderr(&output));
    assert!(stderr(&output).contains("--context") && stderr(&output).contains(&first.url()), "{}", stderr(&output));
    assert_eq!(second.asked().len(), 0, "and nobody was shown the token");
    assert_eq!(stored(home.path()), [format!("*default {}", first.url())]);

    assert_eq!(code(&log_in(home.path(), &second, &["--context", "two"])), 0);
    assert_eq!(stored(home.path()), [format!("default {}", first.url()), format!("*two {}", second.url())]);
    assert_eq!(code(&log_in(home.path(), &first, &["--force"])), 0);
    assert_eq!(stored(home.path()), [format!("default {}", first.url()), format!("*two {}", first.url())]);
}

#[test]
fn a_login_without_an_address_renews_the_token_of_the_context_that_it_takes_the_address_from() {
    let (first, second) = (controller(), controller());
    let home = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&log_in(home.path(), &first, &["--context", "one"])), 0);
    assert_eq!(code(&log_in(home.path(), &second, &["--context", "two"])), 0);
    let file = home.path().join("token");
    let renewed = |token: String, more: &[&str]| {
        std::fs::write(&file, &token).expect("a file");
        let path = file.to_str().expect("a path").to_owned();
        let output = run(&mut lap_at_home(home.path(), &[&["login", "--token-file", &path], more].concat()));
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        token
    };
    let token = renewed(second.token(), &[]);
    assert_eq!(stored(home.path()), [format!("one {}", first.url()), format!("*two {}", second.url())]);
    run(&mut lap_at_home(home.path(), &["app", "ls"]));
    assert_eq!(second.asked().last().expect("asked").token, Some(token), "by the new token");
    renewed(first.token(), &["--context", "one"]);
    assert_eq!(stored(home.path()), [format!("*one {}", first.url()), format!("two {}", second.url())]);
}
