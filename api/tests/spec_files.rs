//! Spec files as people write them, and what Lapstrake says about them.
//!
//! Beside each `specs/*.yaml` stands a `.txt` with what a person gets to see: the problems as they are drawn, or the
//! warnings and the services with all defaults. `UPDATE=1` writes the texts anew.

use lapstrake_api::spec::{
    Colour, MAX_FILE_BYTES, Name, Problem, Severity, SpecFile, mistakes, parse, problems, render, to_yaml,
};
use lapstrake_core::spec::SecretFile;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn name(text: &str) -> Name {
    text.parse().expect("a test names things well")
}

fn specs(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut specs: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    specs.sort();
    assert!(!specs.is_empty(), "{} has spec files", folder.display());
    specs
}

/// Each environment as a file with every default.
fn printed(file: &SpecFile) -> String {
    let mut printed = String::new();
    for (environment, services) in &file.environments {
        let specs = services.iter().map(|(name, declared)| (name.clone(), declared.spec.clone())).collect();
        printed += &format!("# {environment}\n{}", to_yaml(&file.application, &specs));
    }
    printed
}

#[test]
fn every_spec_file_is_answered_as_it_was_agreed() {
    let update = std::env::var_os("UPDATE").is_some();
    for path in specs("tests/specs") {
        let text = fs::read(&path).expect("a spec file can be read");
        let file_name = path.file_name().and_then(|name| name.to_str()).expect("test files have plain names");
        let answer = match parse(&text, &[]) {
            Ok(file) => render(&text, file_name, &file.warnings, Colour::Off) + &printed(&file),
            Err(problems) => render(&text, file_name, &problems, Colour::Off),
        };
        let agreed = path.with_extension("txt");
        if update {
            fs::write(&agreed, &answer).expect("the answer can be written");
        }
        let expected = fs::read_to_string(&agreed).unwrap_or_default();
        assert_eq!(answer, expected, "{file_name}: UPDATE=1 writes it anew");
    }
}

#[test]
fn a_printed_spec_is_read_back_as_it_was() {
    for path in specs("tests/specs").into_iter().chain(specs("../examples/specs")) {
        let Ok(file) = parse(&fs::read(&path).expect("a spec file can be read"), &[]) else { continue };
        for (environment, services) in file.environments {
            let specs: BTreeMap<_, _> = services.into_iter().map(|(name, declared)| (name, declared.spec)).collect();
            let yaml = to_yaml(&file.application, &specs);
            let again = parse(yaml.as_bytes(), std::slice::from_ref(&environment));
            let again = again.unwrap_or_else(|problems| panic!("{}", drawn(yaml.as_bytes(), &problems)));
            let read: BTreeMap<_, _> = again.environments[&environment]
                .iter()
                .map(|(n, declared)| (n.clone(), declared.spec.clone()))
                .collect();
            assert_eq!(read, specs, "{yaml}");
        }
    }
}

fn drawn(text: &[u8], problems: &[Problem]) -> String {
    render(text, "spec.yaml", problems, Colour::Off)
}

#[test]
fn the_example_specs_have_neither_mistakes_nor_warnings() {
    for path in specs("../examples/specs") {
        let text = fs::read(&path).expect("an example can be read");
        match parse(&text, &[]) {
            Ok(file) => assert_eq!(drawn(&text, &file.warnings), "", "{}", path.display()),
            Err(problems) => panic!("{}\n{}", path.display(), drawn(&text, &problems)),
        }
    }
}

const SMALL: &str =
    "application: shop\nservices:\n  web:\n    type: web\n    image: shop/web:1\n    ports: [{ port: 80 }]\n";

#[test]
fn the_caller_chooses_the_environments_and_otherwise_the_file_does() {
    let text = format!("{SMALL}environments:\n  staging:\n  production: {{ services: {{ web: {{ scale: 4 }} }} }}\n");
    let scales = |environments: &[Name]| -> Vec<(String, u32)> {
        let file = parse(text.as_bytes(), environments).expect("the file is good");
        file.environments.iter().map(|(name, services)| (name.to_string(), services["web"].spec.scale)).collect()
    };
    assert_eq!(scales(&[]), [("production".to_owned(), 4), ("staging".to_owned(), 1)]);
    assert_eq!(scales(&[name("production")]), [("production".to_owned(), 4)]);
    assert_eq!(scales(&[name("sandbox")]), [("sandbox".to_owned(), 1)]);
    let problems = parse(SMALL.as_bytes(), &[]).expect_err("no environment is named");
    assert!(problems[0].message.contains("no environment"), "{problems:?}");
}

#[test]
fn more_environments_than_one_file_can_be_for_are_refused() {
    let many: Vec<Name> = (0..33).map(|n| name(&format!("e{n}"))).collect();
    let problems = parse(SMALL.as_bytes(), &many).expect_err("they are too many");
    assert!(problems[0].message.starts_with("33 environments are named"), "{problems:?}");
    assert_eq!(parse(SMALL.as_bytes(), &many[1..]).map(|file| file.environments.len()), Ok(32));
}

#[test]
fn a_service_knows_where_its_key_stands() {
    let file = parse(SMALL.as_bytes(), &[name("production")]).expect("the file is good");
    let declared = &file.environments["production"]["web"];
    let refused = declared.problem("scale", "the environment has no node", None);
    assert_eq!(
        drawn(SMALL.as_bytes(), &[refused]),
        "spec.yaml:3:3: error: the environment has no node\n   |\n 3 |   web:\n   |   ^^^\n"
    );
}

#[test]
fn five_mistakes_of_different_kinds_are_all_named() {
    let problems = parse(include_bytes!("specs/five-mistakes.yaml"), &[]).expect_err("it has mistakes");
    let places: Vec<(usize, usize)> = problems.iter().map(|problem| (problem.at.line, problem.at.column)).collect();
    assert_eq!(places, [(5, 5), (6, 12), (7, 27), (8, 22), (9, 24)]);
}

#[test]
fn what_the_controller_says_is_drawn_as_if_lap_had_found_it() {
    for path in specs("tests/specs") {
        let text = fs::read(&path).expect("a spec file can be read");
        if let Err(found) = parse(&text, &[]) {
            let received = problems(&text, &mistakes(&text, &found), Severity::Error);
            assert_eq!(drawn(&text, &received), drawn(&text, &found), "{}", path.display());
        }
    }
}

#[test]
fn a_file_of_ten_megabytes_is_refused_at_once() {
    let text = vec![b'a'; 10_000_000];
    let begun = Instant::now();
    let problems = parse(&text, &[]).expect_err("it is too large");
    // Reading it would take many times as long, even here.
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(problems.len(), 1);
    assert!(problems[0].message.contains("at most 1024 KiB"), "{problems:?}");
    assert!(drawn(&text, &problems).len() < 1000);
}

#[test]
fn aliases_cannot_make_a_small_file_large() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    let begun = Instant::now();
    let problems = parse(bomb.as_bytes(), &[]).expect_err("it is a bomb");
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(problems[0].message.contains("more than 100000 values"), "{problems:?}");
}

#[test]
fn depth_is_counted_through_aliases() {
    for text in [
        "[".repeat(5000),
        (0..5000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
        (1..2000).fold("a0: &a0 []\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [[[[*a{}]]]]\n", n - 1)),
    ] {
        let text = &text[..text.len().min(MAX_FILE_BYTES)];
        let problems = parse(text.as_bytes(), &[]).expect_err("it is too deep");
        assert!(problems[0].message.contains("deep inside each other"), "{:?}", problems[0]);
    }
}

#[test]
fn a_full_sized_file_of_nonsense_is_answered_in_time() {
    let begun = Instant::now();
    for unit in
        ["a: b\n", "- ", "{", "\"", "? ", "x: [1,\n", "a b c d ", "\t", "&a *a ", "!", "#\n", "k: &a v\n", "'\n"]
    {
        let text = unit.repeat(MAX_FILE_BYTES / unit.len());
        let problems = parse(text.as_bytes(), &[]).expect_err("it is nonsense");
        assert!(!problems.is_empty() && drawn(text.as_bytes(), &problems).len() < 200_000, "{unit:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn a_file_that_multiplies_is_refused_in_time() {
    let begun = Instant::now();
    let keys: String = (0..10_000).map(|n| format!("k{n}: v\n")).collect();
    let merges = format!("a: &a {{ x: y }}\n{keys}<<: [{}]\n", "*a, ".repeat(15_000));
    let doubled = format!("{{ a: &a {{ x: y }}, {} <<: [{}] }}", "k: v, ".repeat(20_000), "*a, ".repeat(15_000));
    let variables: String = (0..20_000).map(|n| format!("      V{n}: v\n")).collect();
    let environments: String = (0..20_000).map(|n| format!("  e{n}:\n")).collect();
    let many = format!("{SMALL}    env:\n{variables}environments:\n{environments}");
    for text in [merges, doubled, many] {
        let problems = parse(text.as_bytes(), &[]).expect_err("it is too much");
        assert!(drawn(text.as_bytes(), &problems).len() < 200_000);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn what_is_wrong_with_a_service_is_said_even_when_no_environment_is_named() {
    let text = "application: shop\nservices: { web: { type: worker, ports: [{ port: 1 }] } }\n";
    let problems = parse(text.as_bytes(), &[]).expect_err("it has mistakes");
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn a_service_has_at_most_a_hundred_secrets_as_variables_and_as_files() {
    let text = |count: usize| {
        let env: String = (0..count).map(|n| format!("V{n}: {{ secret: s }}, ")).collect();
        let files: String = (0..count).map(|n| format!("/run/f{n}: {{ secret: s }}, ")).collect();
        format!("{SMALL}    env: {{ {env} TEXT: t }}\n    files: {{ {files} }}\n")
    };
    let file = parse(text(100).as_bytes(), &[name("production")]).expect("they are as many as may be");
    let spec = &file.environments["production"]["web"].spec;
    assert_eq!((spec.secrets.len(), spec.files.len(), spec.env.len()), (100, 100, 1));
    let problems = parse(text(101).as_bytes(), &[name("production")]).expect_err("they are too many");
    let said: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(said, ["`env` has 101 secrets; 100 are allowed", "`files` has 101 entries; 100 are allowed"]);
}

#[test]
fn texts_stay_as_they_were_written() {
    let text = format!(
        "{SMALL}    env: {{ A: 1.10, B: no, C: 010, D: 22:22, E: 1e3, F: \"\", G: 0x1F, H: 'null', I: TRUE, J: \"a\\nb\" }}\n"
    );
    let file = parse(text.as_bytes(), &[name("production")]).expect("the file is good");
    let env = &file.environments["production"]["web"].spec.env;
    let written: Vec<&str> = env.values().map(String::as_str).collect();
    assert_eq!(written, ["1.10", "no", "010", "22:22", "1e3", "", "0x1F", "null", "TRUE", "a\nb"]);
}

/// Pieces that spec files are made of, good and bad.
const PIECES: [&str; 36] = [
    "application: shop\n",
    "services:\n",
    "  web:\n",
    "    type: web\n",
    "    image: a/b:1\n",
    "    ports:\n",
    "      - port: 80\n",
    "        public: true\n",
    "environments: ",
    "{ production: {} }\n",
    "    env:\n",
    "      A: ",
    "~\n",
    "&x ",
    "*x",
    "<<: *x\n",
    "!!str ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "\t",
    "\u{feff}",
    "\u{1b}",
    "é名",
    "\r",
    "---\n",
    "...\n",
    "? ",
    ": ",
    "# c\n",
];

fn problems_point_inside(text: &[u8]) -> Result<(), TestCaseError> {
    let problems = match parse(text, &[name("production")]) {
        Ok(file) => file.warnings,
        Err(problems) => {
            prop_assert!(!problems.is_empty());
            problems
        }
    };
    let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
    for problem in &problems {
        prop_assert!(problem.at.span.start <= problem.at.span.end && problem.at.span.end <= text.len(), "{problem:?}");
        prop_assert!((1..=lines).contains(&problem.at.line) && problem.at.column >= 1, "{problem:?}");
    }
    prop_assert!(problems.is_sorted());
    let drawn = render(text, "a\u{1b}b", &problems, Colour::Off);
    prop_assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()), "{drawn:?}");
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic_or_point_outside(text: Vec<u8>) {
        problems_point_inside(&text)?;
    }

    #[test]
    fn no_text_makes_the_parser_panic_or_point_outside(text in "\\PC{0,200}") {
        problems_point_inside(text.as_bytes())?;
    }

    #[test]
    fn no_mixture_of_yaml_makes_the_parser_panic_or_point_outside(
        pieces in prop::collection::vec(prop::sample::select(PIECES.as_slice()), 0..40),
    ) {
        problems_point_inside(pieces.concat().as_bytes())?;
    }

    #[test]
    fn a_good_file_with_some_bytes_changed_is_answered_inside(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut text = include_bytes!("specs/shop.yaml").to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        problems_point_inside(&text)?;
    }

    #[test]
    fn any_secret_is_read_back_as_it_was_printed(
        secrets in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", "[a-z][a-z0-9]{0,8}", 0..4),
        files in prop::collection::btree_map("/[^/\\p{C}\\p{Z}]{3,6}x", ("[a-z][a-z0-9]{0,8}", 0u32..=0o777), 0..4),
    ) {
        let mut file = parse(SMALL.as_bytes(), &[name("production")]).expect("the file is good");
        let mut spec = file.environments.remove("production").and_then(|mut s| s.remove("web")).expect("it has web").spec;
        spec.secrets = secrets;
        spec.files = files.into_iter().map(|(path, (secret, mode))| (path, SecretFile { secret, mode })).collect();
        let services = BTreeMap::from([(name("web"), spec)]);
        let yaml = to_yaml(&file.application, &services);
        let again = parse(yaml.as_bytes(), &[name("production")]);
        let again = again.map_err(|problems| TestCaseError::fail(drawn(yaml.as_bytes(), &problems)))?;
        prop_assert_eq!(&again.environments["production"]["web"].spec, &services["web"]);
    }

    #[test]
    fn any_variable_is_read_back_as_it_was_printed(values in prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,8}", "[^\0]{0,20}", 0..6)) {
        let mut file = parse(SMALL.as_bytes(), &[name("production")]).expect("the file is good");
        let mut spec = file.environments.remove("production").and_then(|mut s| s.remove("web")).expect("it has web").spec;
        spec.env = values;
        let services = BTreeMap::from([(name("web"), spec)]);
        let yaml = to_yaml(&file.application, &services);
        let again = parse(yaml.as_bytes(), &[name("production")]);
        let again = again.map_err(|problems| TestCaseError::fail(drawn(yaml.as_bytes(), &problems)))?;
        prop_assert_eq!(&again.environments["production"]["web"].spec, &services["web"]);
    }
}
