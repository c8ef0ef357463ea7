//! What was probably meant.

/// The candidate that is nearest to `word`, if one is near: a third of its letters may be wrong.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The words between backticks after the first one, as in "unknown field `a`, expected `b` or `c`".
pub(super) fn expected(message: &str) -> impl Iterator<Item = &str> {
    message.split('`').skip(1).step_by(2).skip(1)
}

/// Every word of a message, without its punctuation.
pub(super) fn words(message: &str) -> impl Iterator<Item = &str> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    message.split(move |letter| !is_word(letter)).filter(|word| word.len() > 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_candidate_is_near() {
        let keys = ["lifetime", "access_token", "error", "url"];
        let cases = [
            ("lifetme", Some("lifetime")),
            ("acces_token", Some("access_token")),
            ("Error", Some("error")),
            ("ulr", Some("url")),
            ("expires", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, keys), expected, "{word}");
        }
    }

    #[test]
    fn candidates_are_read_from_the_message() {
        let message = "unknown field `a`, expected one of `b`, `c`";
        assert_eq!(expected(message).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(expected("missing field `a`").count(), 0);
        assert_eq!(words("one of { fixed = \"1h\" }, \"jwt\"").collect::<Vec<_>>(), ["one", "fixed", "jwt"]);
    }
}
