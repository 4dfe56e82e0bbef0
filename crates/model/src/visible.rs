//! Checks that a name can be read: no direction overrides, and at least one visible character.

use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, WhiteSpace};

/// Whether a character changes the direction of the text around it, so that `exe.fdp` is shown as `pdf.exe`
/// (Unicode Standard Annex #9, section 2: embeddings, overrides and isolates). Arabic and Hebrew names do not
/// need these characters; their direction marks are allowed.
pub(crate) fn is_directional(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Whether a name has a visible character: one that is neither white space nor default-ignorable (Unicode
/// properties `White_Space` and `Default_Ignorable_Code_Point`).
pub(crate) fn is_visible(name: &str) -> bool {
    let (ignorable, blank) = (
        CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        CodePointSetData::new::<WhiteSpace>(),
    );
    name.chars().any(|c| !ignorable.contains(c) && !blank.contains(c))
}
