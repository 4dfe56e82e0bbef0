//! Comparison of names as file systems compare them.

use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

/// Names with the same key are the same name on some file system: macOS and Windows ignore case, macOS also
/// ignores normalization, and HFS+ ignores invisible characters. This is canonical caseless matching (Unicode
/// Standard, 3.13, D145) without ignorable characters.
pub(super) fn key(name: &str) -> String {
    let seen = name.chars().filter(|it| !is_ignorable(*it));
    seen.nfd().default_case_fold().nfd().collect()
}

/// `Default_Ignorable_Code_Point` (Unicode Character Database, DerivedCoreProperties.txt).
fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn equal_names_of_a_file_system_have_one_key() {
        for (one, other) in [
            ("A", "a"),
            (
                "\u{39b}\u{39f}\u{393}\u{39f}\u{3a3}",
                "\u{3bb}\u{3bf}\u{3b3}\u{3bf}\u{3c2}",
            ),
            ("\u{17f}", "S"),
            ("\u{df}", "SS"),
            ("\u{fb01}", "FI"),
            ("\u{c4}", "a\u{308}"),
            (".\u{17f}ync\u{200c}Sphere", ".syncsphere"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        assert_ne!(key("a"), key("\u{e4}"));
    }
}
