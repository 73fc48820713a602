//! Reads what h2load wrote of its requests (`--log-file`): when each began, in microseconds since 1970, its status, and
//! how many microseconds it took to the end of the answer.

use crate::figures::percentile;
use anyhow::{Context as _, bail};

/// One request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// When it began, in milliseconds since 1970.
    pub at_ms: f64,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// Reads the lines. A request that was not answered with 200 spoils the measurement.
pub fn read(text: &str) -> anyhow::Result<Vec<Asked>> {
    text.lines().map(|line| one(line).with_context(|| format!("of h2load's log: {line:?}"))).collect()
}

fn one(line: &str) -> anyhow::Result<Asked> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [at, status, took] = words[..] else { bail!("not three words") };
    if status != "200" {
        bail!("status {status}");
    }
    let (at, took): (f64, f64) = (at.parse()?, took.parse()?);
    Ok(Asked { at_ms: at / 1000.0, took_ms: took / 1000.0 })
}

/// The 99th percentile of the requests that began in a span of time, and how many there were; none of none.
pub fn p99_between(asked: &[Asked], from_ms: f64, to_ms: f64) -> Option<(f64, usize)> {
    let within: Vec<f64> =
        asked.iter().filter(|one| (from_ms..to_ms).contains(&one.at_ms)).map(|one| one.took_ms).collect();
    Some((percentile(&within, 99.0)?, within.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_that_began_in_the_span_count() {
        let asked = read("1000000\t200\t500\n2000000\t200\t700\n3000000\t200\t900\n").unwrap();
        assert_eq!(p99_between(&asked, 1000.0, 3000.0), Some((0.7, 2)));
        assert_eq!(p99_between(&asked, 4000.0, 5000.0), None);
    }

    #[test]
    fn a_request_that_failed_spoils_the_measurement() {
        assert!(read("1000000\t503\t500\n").is_err());
        assert!(read("1000000\t-1\t500\n").is_err());
    }
}
