//! "Did you mean": the word of a list that is nearest to one that nobody knows.

/// A longer word is no typing mistake of ours, and comparing it would take its time.
const MAX_COMPARED_CHARS: usize = 40;

/// The nearest candidate, if it is near enough: one slip in a word of up to four letters, two in a longer one.
pub(super) fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word.chars().flat_map(char::to_lowercase).take(MAX_COMPARED_CHARS + 1).collect();
    if word.len() > MAX_COMPARED_CHARS {
        return None;
    }
    let allowed = if word.len() <= 4 { 1 } else { 2 };
    let with_slips = candidates.into_iter().map(|candidate| (slips(&word, candidate), candidate));
    // A word of which nothing is left is not near to anything.
    with_slips.filter(|(slips, candidate)| *slips <= allowed && *slips < candidate.len()).min().map(|(_, c)| c)
}

/// Letters to add, drop, change or swap with their neighbour (optimal string alignment).
fn slips(word: &[char], candidate: &str) -> usize {
    let other: Vec<char> = candidate.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for i in 1..=word.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let changed = last[j - 1] + usize::from(word[i - 1] != other[j - 1]);
            let mut least = changed.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && word[i - 1] == other[j - 2] && word[i - 2] == other[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_recognised_and_another_word_is_not() {
        let words = ["image", "scale", "env", "health", "ports"];
        for (typed, meant) in [
            ("imagee", Some("image")),
            ("iamge", Some("image")),
            ("Scale", Some("scale")),
            ("evn", Some("env")),
            ("helth", Some("health")),
            ("volume", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, words), meant, "{typed}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), words), None);
    }
}
