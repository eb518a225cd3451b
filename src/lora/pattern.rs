//! Regular expressions as PEFT uses them: Python's `re`.
//!
//! PEFT puts a key into a longer expression and matches from the start of a module's name. Ours does
//! the same, so groups have the same numbers and alternatives the same reach. What Python refuses or
//! reads otherwise than `fancy_regex` is refused. Names are ASCII without line breaks, where the two
//! agree on all else.

use fancy_regex::Regex;

/// A compiled expression that matches from the start of a name.
#[derive(Debug)]
pub(super) struct Pattern(Regex);

/// Why an expression isn't taken.
pub(super) type Problem = String;

impl Pattern {
    /// A key of `alpha_pattern` or `rank_pattern` (`get_pattern_key` in peft/utils/other.py).
    pub(super) fn key(text: &str) -> Result<Self, Problem> {
        Self::within(r"(.*\.)?(", text, ")$")
    }

    /// An expression for a whole name (`re.fullmatch`).
    pub(super) fn whole(text: &str) -> Result<Self, Problem> {
        Self::within("", text, "")?;
        Self::within("(?:", text, ")$")
    }

    /// The number of a layer in a list named `text` (`check_target_module_exists` in
    /// peft/tuners/tuners_utils.py).
    pub(super) fn layer(text: &str) -> Result<Self, Problem> {
        Self::within(r"(?:^|.*?\.)", text, r"\.(?P<idx>\d+)\.")
    }

    /// The number of a layer in any list.
    pub(super) fn any_layer() -> Result<Self, Problem> {
        Self::within("", "", r".*?\.[^.]*\.(?P<idx>\d+)\.")
    }

    fn within(before: &str, text: &str, after: &str) -> Result<Self, Problem> {
        as_python(text)?;
        let regex = Regex::new(&format!("{before}{text}{after}"));
        regex.map(Self).map_err(|e| e.to_string())
    }

    /// Whether it matches `name` from the start.
    pub(super) fn matches(&self, name: &str) -> Result<bool, Problem> {
        let found = self.0.find(name).map_err(|e| e.to_string())?;
        Ok(found.is_some_and(|m| m.start() == 0))
    }

    /// The number it finds in `name`.
    pub(super) fn index(&self, name: &str) -> Result<Option<u64>, Problem> {
        let found = self.0.captures(name).map_err(|e| e.to_string())?;
        let from_start = found.filter(|c| c.get(0).is_some_and(|m| m.start() == 0));
        Ok(from_start.and_then(|c| c.name("idx")?.as_str().parse().ok()))
    }
}

/// Escapes that mean the same to both; so do those of punctuation and the numbers of groups.
const ESCAPES: &str = "ABbDdSsWwafnrtvx";
/// What may follow `(?`.
const GROUPS: [&str; 9] = [":", "=", "!", "<=", "<!", "P<", ">", "i:", "-i:"];

/// Refuses what Python refuses or reads otherwise.
fn as_python(text: &str) -> Result<(), Problem> {
    let refuse = |part: &str| Err(format!("`{part}` is not read here as Python reads it"));
    let mut rest = text;
    // Whether a quantifier may follow, and whether one just ended.
    let (mut repeated, mut class) = (false, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let was_repeated = std::mem::take(&mut repeated);
        rest = after;
        match c {
            '\\' => {
                let Some(escaped) = after.chars().next() else {
                    return refuse(r"\");
                };
                let known = match escaped {
                    '1'..='9' => !class,
                    'A' | 'B' | 'b' => !class,
                    '<' | '>' | '0' => false,
                    'x' => after[1..].len() >= 2 && !after[1..].starts_with('{'),
                    _ => !escaped.is_ascii_alphanumeric() || ESCAPES.contains(escaped),
                };
                if !known || !escaped.is_ascii() {
                    return refuse(&format!(r"\{escaped}"));
                }
                rest = &after[1..];
            }
            // Sets within sets and their operations are not Python's.
            '[' if class => return refuse("["),
            '&' | '-' | '~' if class && after.starts_with(c) => return refuse(&format!("{c}{c}")),
            ']' if class => class = false,
            _ if class => {}
            '[' => {
                class = true;
                // Here a bracket is an element, not the end.
                rest = after.strip_prefix('^').unwrap_or(after);
                rest = rest.strip_prefix(']').unwrap_or(rest);
            }
            '(' if after.starts_with('?') => {
                let kind = &after[1..];
                let Some(group) = GROUPS.iter().find(|g| kind.starts_with(**g)) else {
                    let shown: String = kind.chars().take(2).collect();
                    return refuse(&format!("(?{shown}"));
                };
                rest = &kind[group.len()..];
            }
            '(' if after.starts_with(['*', '+', '{']) => return refuse(&rest_of(c, after)),
            '|' | '^' | '$' if after.starts_with(['*', '+', '?', '{']) => {
                return refuse(&rest_of(c, after));
            }
            '*' | '+' | '?' | '{' => {
                if was_repeated {
                    return refuse(&format!("repeated {c}"));
                }
                let mut lazy = after;
                if c == '{' {
                    lazy = counted(after)
                        .ok_or("`{` without a count is not read here as Python reads it")?;
                }
                // Lazy or possessive; a possessive count is another thing in each.
                rest = match lazy.strip_prefix('+') {
                    Some(_) if c == '{' => return refuse("}+"),
                    Some(possessive) => possessive,
                    None => lazy.strip_prefix('?').unwrap_or(lazy),
                };
                repeated = true;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A character and its follower, for a message.
fn rest_of(c: char, after: &str) -> String {
    std::iter::once(c).chain(after.chars().next()).collect()
}

/// What follows a count such as `3}` or `1,}`.
fn counted(after: &str) -> Option<&str> {
    let (count, rest) = after.split_once('}')?;
    let (low, high) = count.split_once(',').unwrap_or((count, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (!low.is_empty() && digits(low) && digits(high)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_means_otherwise_is_refused() {
        for text in [
            r"\ho", r"\<to_q", r"to_q\z", r"\p{L}", r"\Kx", "(?i)to_q", "(?x: a)", "[a[b]]",
            "[a&&b]", "[a--b]", "a**", "*to_q", "a{,3}", "{", "(?<n>a)", "(", "to_q)", "[", "\\",
        ] {
            assert!(Pattern::key(text).is_err(), "{text}");
        }
        // Lengths that would take forever end in an error, not in a wait.
        let slow = Pattern::key(r"(?:(a|a)+)+\1b").unwrap();
        assert!(slow.matches(&"a".repeat(60)).is_err());
    }

    #[test]
    fn a_key_is_matched_as_peft_matches_it() {
        let name = "down_blocks.1.attentions.0.attn1.to_q";
        for (key, expected) in [
            ("to_q", true),
            ("o_q", false),
            ("attn1.to_q", true),
            ("attn1.(to_q|to_k)", true),
            ("attn1.*to_q", true),
            ("^down_blocks.*to_q", true),
            ("^attn1.to_q", false),
            ("attn1", false),
            (r"down_blocks\.\d+.*", true),
            ("(?i:ATTN1).to_q", true),
            (r"(?=at)attn[^2]\.to_[qk]", true),
            // In Python, the end belongs to the last alternative alone.
            ("down)|(x", true),
        ] {
            let found = Pattern::key(key).unwrap().matches(name).unwrap();
            assert_eq!(found, expected, "{key}");
        }
    }
}
