//! Prints the table: at most 100 columns, a row for everything that was measured.

use crate::board::{Compared, Row, Unit};
use crate::figures::Spread;
use crate::samples::{OURS, Samples};

/// No line is longer.
pub const WIDTH: usize = 100;

/// The table of these rows, without those of which nothing was measured.
pub fn table(rows: &[Row], samples: &Samples) -> String {
    let head = ["measure", "ours", "theirs", "compared", "spread", "target", ""].map(str::to_owned);
    let mut lines = vec![line(&head)];
    lines.extend(rows.iter().filter_map(|row| Some(line(&cells(row, samples)?))));
    lines.join("\n") + "\n"
}

fn line(cells: &[String; 7]) -> String {
    let [measure, ours, theirs, compared, spread, target, verdict] = cells;
    let line = format!("{measure:<37} {ours:>8} {theirs:>8} {compared:>9} {spread:>17} {target:>8} {verdict}");
    line.trim_end().to_owned()
}

fn cells(row: &Row, samples: &Samples) -> Option<[String; 7]> {
    let (ours, theirs, compared) = match row.compared {
        Compared::Alone => {
            let ours = Spread::of(&samples.of(&row.measure, OURS))?;
            (ours, None, ours)
        }
        Compared::Ratio | Compared::Difference => {
            let (ours, theirs): (Vec<f64>, Vec<f64>) = samples.pairs(&row.measure, row.against).into_iter().unzip();
            let both = ours.iter().zip(&theirs);
            let compared: Vec<f64> = match row.compared {
                Compared::Ratio => both.map(|(ours, theirs)| ours / theirs).collect(),
                _ => both.map(|(ours, theirs)| ours - theirs).collect(),
            };
            (Spread::of(&ours)?, Spread::of(&theirs), Spread::of(&compared)?)
        }
    };
    let told = |value: f64| match row.compared {
        Compared::Ratio => format!("{value:.2}"),
        Compared::Difference => format!("{}{}", if value >= 0.0 { "+" } else { "-" }, amount(value.abs(), row.unit)),
        Compared::Alone => amount(value, row.unit),
    };
    let verdict = match row.target {
        None => "",
        Some(target) if compared.median <= target => "met",
        Some(_) => "MISSED",
    };
    Some([
        row.title.clone(),
        amount(ours.median, row.unit),
        theirs.map(|theirs| amount(theirs.median, row.unit)).unwrap_or_default(),
        if row.compared == Compared::Alone { String::new() } else { told(compared.median) },
        format!("{}..{}", told(compared.least), told(compared.most)).replace(' ', ""),
        row.target.map(|target| format!("<={}", told(target)).replace(' ', "")).unwrap_or_default(),
        verdict.to_owned(),
    ])
}

/// With its unit, to three digits.
fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Millis if value >= 10_000.0 => format!("{:.1} s", value / 1000.0),
        Unit::Millis if value >= 1000.0 => format!("{:.2} s", value / 1000.0),
        Unit::Millis if value >= 10.0 => format!("{value:.0} ms"),
        Unit::Millis => format!("{value:.2} ms"),
        Unit::Megabytes => format!("{value:.1} MB"),
        Unit::CpuMillis => format!("{value:.2} ms"),
        Unit::CpuMicros => format!("{value:.1} us"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board;

    fn lines(text: &str) -> Vec<String> {
        let samples = Samples::read(text).unwrap();
        table(&board::rows(), &samples).lines().skip(1).map(str::to_owned).collect()
    }

    #[test]
    fn a_ratio_is_compared_round_by_round_and_judged_by_its_median() {
        // The machine was twice as slow in the second round, for both.
        let text = "apply-50 ours 1 7000\napply-50 raw 1 7000\napply-50 ours 2 15000\napply-50 raw 2 14000\n\
                    apply-50 ours 3 7700\napply-50 raw 3 7000\n";
        let lines = lines(text);
        let words: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(words[7..], ["7.70", "s", "7.00", "s", "1.07", "1.00..1.10", "<=1.10", "met"]);
        assert_eq!(lines.len(), 1, "what was not measured has no row");
    }

    #[test]
    fn a_missed_target_stays_in_the_table_as_missed() {
        let lines = lines("apply-1 ours 1 240\napply-1 raw 1 200\nmemory-agent ours 1 13\nmemory-proxy ours 1 12\n");
        assert!(lines[0].ends_with("<=+25ms MISSED") && lines[0].contains("+40 ms"), "{}", lines[0]);
        assert!(lines[1].ends_with("<=12.0MB MISSED"), "{}", lines[1]);
        assert!(lines[2].ends_with("<=12.0MB met"), "{}", lines[2]);
    }

    #[test]
    fn what_costs_less_than_the_other_side_has_a_minus() {
        let lines = lines("redeploy-switch ours 1 1.5\nredeploy-switch quiet 1 1.75\n");
        assert!(lines[0].contains("-0.25 ms") && lines[0].ends_with("met"), "{}", lines[0]);
    }

    #[test]
    fn no_line_of_the_whole_board_is_longer_than_a_hundred_columns() {
        let mut text = String::new();
        for row in board::rows() {
            for (round, factor) in [(1, 1.0), (2, 1.4)] {
                let value = match row.unit {
                    Unit::Millis => 12_345.0,
                    Unit::Megabytes | Unit::CpuMicros => 234.5,
                    Unit::CpuMillis => 123.45,
                };
                text += &format!("{} ours {round} {}\n", row.measure, value * factor);
                if !row.against.is_empty() {
                    text += &format!("{} {} {round} {}\n", row.measure, row.against, value / 10.0);
                }
            }
        }
        let samples = Samples::read(&text).unwrap();
        let printed = table(&board::rows(), &samples);
        assert_eq!(printed.lines().count(), 1 + board::rows().len());
        for line in printed.lines() {
            assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        }
    }
}
