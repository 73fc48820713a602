//! The judge of a redeploy, or of many: reads what the load, the controller, the engine and the sample service wrote down,
//! each by itself, and says whether what was promised was kept.
//!
//! It is a process of its own and shares no code with what it judges, only files. `evidence` reads them, `redeploys` judges
//! the replacements of a soak, `crash` what a killed process left behind; a `Sheet` takes the verdicts.

pub mod crash;
pub mod evidence;
pub mod redeploys;

use std::fmt;

/// How many single cases of a failed check are shown.
const SHOWN: usize = 8;

/// One promise, and the cases in which it was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The promise, as a sentence.
    pub sentence: String,
    /// How many cases were looked at.
    pub cases: usize,
    /// How many of them may break it.
    pub allowed: usize,
    /// Each case that broke it, in words.
    pub broken: Vec<String>,
}

impl Check {
    /// A promise looked at in no case is not kept: nothing shows that it is.
    pub fn passed(&self) -> bool {
        self.cases > 0 && self.broken.len() <= self.allowed
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.passed() { "ok    " } else { "FAILED" };
        write!(f, "{word} {} ({} of {})", self.sentence, self.cases - self.broken.len(), self.cases)?;
        for broken in self.broken.iter().take(SHOWN) {
            write!(f, "\n         {broken}")?;
        }
        let hidden = self.broken.len().saturating_sub(SHOWN);
        if hidden > 0 { write!(f, "\n         and {hidden} more") } else { Ok(()) }
    }
}

/// All checks of a judgement.
#[derive(Debug, Default)]
pub struct Sheet {
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Sheet {
    /// A promise about single cases: what is wrong with each, if something is. None may break it.
    pub fn every(&mut self, sentence: &str, cases: impl IntoIterator<Item = Option<String>>) {
        self.most(sentence, |_| 0, cases);
    }

    /// A promise that some cases may break: `allowed` says how many of so many.
    pub fn most(
        &mut self,
        sentence: &str,
        allowed: impl FnOnce(usize) -> usize,
        cases: impl IntoIterator<Item = Option<String>>,
    ) {
        let (mut number, mut broken) = (0, Vec::new());
        for case in cases {
            number += 1;
            broken.extend(case);
        }
        let allowed = allowed(number);
        self.checks.push(Check { sentence: sentence.to_owned(), cases: number, allowed, broken });
    }

    /// How many checks passed, and how many failed.
    pub fn count(&self) -> (usize, usize) {
        let passed = self.checks.iter().filter(|check| check.passed()).count();
        (passed, self.checks.len() - passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_that_nothing_was_tried_on_is_not_kept() {
        let mut sheet = Sheet::default();
        sheet.every("all is well", []);
        sheet.every("all is well", [None, None]);
        sheet.every("all is well", [None, Some("the second was not".into())]);
        assert_eq!(sheet.count(), (1, 2));
    }

    #[test]
    fn a_promise_about_most_cases_allows_as_many_as_it_says_and_no_more() {
        let mut sheet = Sheet::default();
        let late = || Some("late".to_owned());
        sheet.most("in time", |_| 1, [None, late()]);
        sheet.most("in time", |_| 1, [late(), late()]);
        assert_eq!(sheet.count(), (1, 1));
    }
}
