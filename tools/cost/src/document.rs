//! The part of docs/operations.md that this program writes.

use std::fs;

use anyhow::{Context as _, Result};
use runner::project::Project;

/// The document, relative to the project's root.
const DOCUMENT: &str = "docs/operations.md";

/// The line before the part.
const BEGIN: &str =
    "<!-- Written by `cargo xtask cost` until the next such line: changes by hand are lost. -->\n";

/// The line after the part.
const END: &str = "<!-- End of what `cargo xtask cost` writes. -->\n";

/// Replaces the part.
pub(crate) fn write(project: &Project, tables: &str) -> Result<()> {
    let file = project.root.join(DOCUMENT);
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {DOCUMENT}"))?;
    fs::write(&file, replaced(&text, tables)?).with_context(|| format!("cannot write {DOCUMENT}"))
}

fn replaced(text: &str, tables: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let (before, after) = parts.with_context(|| format!("{DOCUMENT} has no part for `cargo xtask cost`"))?;
    Ok(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Recorded;
    use crate::prices::Prices;
    use crate::tables::tables;
    use crate::template::Template;

    #[test]
    fn only_the_part_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(
            replaced(&text, "new\n").unwrap(),
            format!("a\n{BEGIN}\nnew\n\n{END}b\n")
        );
        assert!(replaced("a\n", "new\n").is_err());
    }

    #[test]
    fn the_document_has_the_tables_of_the_recorded_counts_and_of_the_prices() {
        let project = Project::find().unwrap();
        let recorded = Recorded::read(&project).unwrap();
        let (prices, template) = (Prices::read(&project).unwrap(), Template::read(&project).unwrap());
        let text = fs::read_to_string(project.root.join(DOCUMENT)).unwrap();
        let expected = replaced(&text, &tables(&recorded, &prices, &template)).unwrap();
        assert!(
            text == expected,
            "{DOCUMENT} is not what tools/cost would write; run `cargo xtask cost --recorded`"
        );
    }
}
