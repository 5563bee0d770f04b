//! What somebody may have meant who wrote a word that is none of those that are legal.
//!
//! In: the word, and the legal ones. Out: the one that was meant, if that can be told.

/// Of the names the one that takes the fewest changes, if it is that name rather than another word.
pub(crate) fn nearest<'n>(typed: &str, names: &[&'n str]) -> Option<&'n str> {
    let typed = typed.to_lowercase().replace('_', "-");
    let changes = names.iter().map(|name| (changes(&typed, name), *name));
    let (fewest, name) = changes.min()?;
    (fewest <= name.len() / 2).then_some(name)
}

/// Letters to insert, delete or replace to make one word of the other.
fn changes(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_its_own_is_no_misspelling() {
        assert_eq!(changes("kitten", "sitting"), 3);
        let names = ["framing", "max-connections"];
        assert_eq!(nearest("Max_Connection", &names), Some("max-connections"));
        assert_eq!(nearest("backlog", &names), None);
        assert_eq!(nearest("", &names), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), &names), None);
    }
}
