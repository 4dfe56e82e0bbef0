//! Names that people can tell apart by looking at them.

use icu_properties::CodePointSetData;
use icu_properties::props::{DefaultIgnorableCodePoint, WhiteSpace};

/// Whether a character changes the direction of the text around it, so that `exe.fdp` is shown as `pdf.exe`
/// (Unicode Standard Annex #9, section 2: embeddings, overrides and isolates). The marks that Arabic and
/// Hebrew names need are none of these.
pub(crate) fn is_directional(c: char) -> bool {
    matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Whether anything of a name can be seen: a character that is neither white space nor shown as nothing.
pub(crate) fn is_visible(name: &str) -> bool {
    let (ignorable, blank) = (
        CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        CodePointSetData::new::<WhiteSpace>(),
    );
    name.chars().any(|c| !ignorable.contains(c) && !blank.contains(c))
}
