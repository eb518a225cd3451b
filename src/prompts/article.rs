//! "a" or "an", by the sound that a word begins with.

/// Letters whose names begin with a vowel: an MRI, a CT.
const VOWEL_NAMES: &str = "aefhilmnorsx";

/// Vowels, with the accents that English borrows.
const VOWELS: &str = "aeiouàáâäåæèéêëìíîïòóôöøœùúûü";

/// Beginnings that are spelled with a vowel and spoken as "you" or "one".
const CONSONANTS: [&str; 16] = [
    "eu", "ewe", "one-", "once", "ubi", "uga", "uk", "uni", "ura", "uri", "uro", "uru", "use",
    "usu", "ute", "uti",
];

/// Of those, the ones that are spoken as they are spelled: un-, not uni-.
const YET_VOWELS: [&str; 4] = ["unidentif", "unimag", "unimp", "unin"];

/// Beginnings with a silent h.
const SILENT: [&str; 5] = ["heir", "honest", "honor", "honour", "hour"];

/// The article for what follows, by its first word: "an" for "old doctor".
pub(super) fn article(following: &str) -> &'static str {
    let start = following.trim_start_matches(|c: char| !c.is_alphanumeric());
    match begins_with_a_vowel(start) {
        true => "an",
        false => "a",
    }
}

/// A prompt without the article that it begins with.
pub(super) fn without_article(prompt: &str) -> &str {
    let rest = prompt.split_once(' ').filter(|(first, _)| {
        ["a", "an"]
            .iter()
            .any(|article| first.eq_ignore_ascii_case(article))
    });
    rest.map_or(prompt, |(_, rest)| rest.trim_start())
}

fn begins_with_a_vowel(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_alphanumeric());
    let first = &text[..end.unwrap_or(text.len())];
    if first.starts_with(|c: char| c.is_ascii_digit()) {
        let number = first.trim_end_matches(char::is_alphabetic);
        return number.starts_with('8') || ["11", "18"].contains(&number);
    }
    let letters = first.chars().count();
    // One letter, or up to three capitals, are spelled: an X-ray, an HR manager, a UN envoy.
    if letters == 1 || letters < 4 && first.chars().all(char::is_uppercase) {
        let name = first.chars().flat_map(char::to_lowercase).next();
        return name.is_some_and(|letter| VOWEL_NAMES.contains(letter));
    }
    let text = text.to_lowercase();
    let begins = |list: &[&str]| list.iter().any(|beginning| text.starts_with(beginning));
    if first.eq_ignore_ascii_case("one") || begins(&CONSONANTS) {
        return begins(&YET_VOWELS);
    }
    begins(&SILENT) || text.starts_with(|letter| VOWELS.contains(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sound_decides() {
        let an = "old asian indian Indian engineer hour honest heir X-ray x-ray HR MRI IT 8-year-old \
            80-year-old 11-year-old 18th-century 18 urban umpire usher ugly undertaker uninsured \
            unidentified éclair artist's (old) utter uncle onerous IBM a";
        let a = "doctor white black middle latino young female unicyclist university uniformed user \
            European euphoric ewe one-legged once-famous ukulele urologist Ugandan UN US CT NASA \
            YMCA 10-year-old 1 100 180 house herder humanoid yoga utility usual b";
        for word in an.split_whitespace() {
            assert_eq!(article(&format!(" {word} one")), "an", "{word}");
        }
        for word in a.split_whitespace() {
            assert_eq!(article(&format!(" {word} one")), "a", "{word}");
        }
        assert_eq!(article("one man band"), "a");
        assert_eq!(article(""), "a");
    }

    #[test]
    fn only_an_article_is_taken_off() {
        for (prompt, expected) in [
            ("a doctor", "doctor"),
            ("An  artist", "artist"),
            ("artist", "artist"),
            ("a", "a"),
            ("the doctor", "the doctor"),
            ("a-frame builder", "a-frame builder"),
        ] {
            assert_eq!(without_article(prompt), expected);
        }
    }
}
