// For the tests of the daemons' configurations, which are compared with the samples in the packages. Included where it is used.

/// A sample with its keys made to count.
fn uncommented(sample: &str) -> String {
    let key = |line: &str| {
        let rest = line.strip_prefix('#');
        let rest = rest.filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()));
        rest.unwrap_or(line).to_owned()
    };
    sample.lines().map(key).collect::<Vec<_>>().join("\n")
}

/// Panics unless all keys that a refusal of an unknown one names are in the sample. There are more than so many.
fn assert_shows_all(sample: &str, refusal: &str, more_than: usize) {
    // The names between back quotes, after the unknown one's.
    let known: Vec<&str> = refusal.split("expected").nth(1).expect("names").split('`').skip(1).step_by(2).collect();
    assert!(known.len() > more_than, "{refusal}");
    for key in known {
        let shows = |line: &str| line.starts_with(&format!("{key} = ")) || line == format!("[{key}]");
        assert!(sample.lines().any(shows), "{key} is not in the sample");
    }
}
