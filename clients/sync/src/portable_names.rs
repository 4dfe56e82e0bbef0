//! Names as the file systems of other systems take them.

use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

/// Names with the same key are the same name on some file system: macOS and Windows ignore case, macOS also
/// ignores normalization, and HFS+ ignores invisible characters. This is canonical caseless matching (Unicode
/// Standard, 3.13, D145) without ignorable characters.
pub fn key(name: &str) -> String {
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

/// Whether Windows has a name as it is (Microsoft, "Naming Files, Paths, and Namespaces"). Others reach a device,
/// a stream of another file or another folder, or lose their end.
pub fn is_windows_name(name: &str) -> bool {
    let stem = name
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let is_device = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str())
        || ["COM", "LPT"].iter().any(|kind| {
            let number = stem.strip_prefix(kind);
            number.is_some_and(|it| {
                matches!(it, "\u{b9}" | "\u{b2}" | "\u{b3}")
                    || it.len() == 1 && it.as_bytes()[0].is_ascii_digit()
            })
        });
    !is_device && !name.ends_with(['.', ' ']) && !name.contains(['<', '>', ':', '"', '|', '?', '*', '\\'])
}

/// Whether a name has the form of a short name (`SYNCSP~1`), which FAT and NTFS add to long names.
pub fn is_short_name(name: &str) -> bool {
    let mut after = name.split('~').skip(1);
    after.any(|after| after.starts_with(|it: char| it.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn names_that_windows_takes_for_others_are_known() {
        for bad in ["nul", "COM1.txt", "a:b", "a ", "a.", "..\\x", "lpt\u{b9}"] {
            assert!(!is_windows_name(bad), "{bad}");
        }
        for good in ["a", "null", "com.txt", "COM10", "\u{fc}"] {
            assert!(is_windows_name(good), "{good}");
        }
        assert!(is_short_name("SYNCSP~1") && !is_short_name("a~") && !is_short_name("~a"));
    }
}
