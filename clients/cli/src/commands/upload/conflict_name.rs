//! Names for copies of files that were changed on two devices.

use std::path::Path;
use std::{fs, io};

use anyhow::Context as _;
use model::SpacePath;
use time::{Date, OffsetDateTime};

use crate::commands::sync::with_suffix;
use crate::resolve;

/// `/report (conflict, laptop, 2026-11-29).pdf`: the name shows the origin of the copy and keeps the
/// extension. A number above 1 is added to distinguish copies of the same day.
pub(super) fn conflict_path(
    path: &SpacePath,
    host_label: &str,
    date: Date,
    number: u32,
) -> anyhow::Result<SpacePath> {
    let suffix = match number {
        1 => format!(" (conflict, {host_label}, {date})"),
        number => format!(" (conflict, {host_label}, {date}, {number})"),
    };
    let name = path.file_name();
    let folder = path.as_str().strip_suffix(name).unwrap_or("/");
    let conflict_path = format!("{folder}{}", with_suffix(name, &suffix));
    resolve::path(&conflict_path).context("the name of the copy would be too long; rename the file")
}

/// The day (UTC) of a file's last change. The same content therefore gets the same name at each attempt.
pub(super) fn modified_date(file: &Path) -> io::Result<Date> {
    let changed = OffsetDateTime::from(fs::metadata(file)?.modified()?);
    Ok(changed.date())
}

/// The current day (UTC).
#[expect(
    clippy::disallowed_methods,
    reason = "the name tells people when the copy was made"
)]
pub(super) fn today() -> Date {
    OffsetDateTime::now_utc().date()
}

/// The host name of this machine, with only characters that every file system allows.
pub(crate) fn host_label() -> String {
    name_of(&host_name())
}

#[cfg(unix)]
fn host_name() -> String {
    let names = rustix::system::uname();
    names.nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host_name() -> String {
    let name = std::env::var_os("COMPUTERNAME").unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn name_of(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default();
    let replace_other = |character: char| {
        if character.is_ascii_alphanumeric() {
            character
        } else {
            '-'
        }
    };
    match label.chars().take(63).map(replace_other).collect::<String>() {
        name if name.is_empty() => "device".to_owned(),
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn a_conflict_name_has_device_date_and_extension() {
        let conflict_path = |path: &str, number| {
            let path = path.parse().unwrap();
            conflict_path(&path, "laptop", date!(2026 - 11 - 29), number).map(String::from)
        };
        assert_eq!(
            conflict_path("/a/report.pdf", 1).unwrap(),
            "/a/report (conflict, laptop, 2026-11-29).pdf"
        );
        assert_eq!(
            conflict_path("/Makefile", 2).unwrap(),
            "/Makefile (conflict, laptop, 2026-11-29, 2)"
        );
        let long = conflict_path(&format!("/{}.pdf", "ä".repeat(125)), 1).unwrap();
        assert!(
            long.len() <= 256 && long.ends_with("ä (conflict, laptop, 2026-11-29).pdf"),
            "{long}"
        );
        let deep = format!("/{}x", "y/".repeat(510));
        assert!(conflict_path(&deep, 1).is_err());
    }

    #[test]
    fn a_host_label_is_a_valid_file_name() {
        assert_eq!(name_of("laptop.example.org"), "laptop");
        assert_eq!(name_of("Bob's/..\\x"), "Bob-s-");
        assert_eq!(name_of(""), "device");
        assert!(!host_label().is_empty());
    }
}
