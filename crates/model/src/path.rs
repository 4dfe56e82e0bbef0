//! Paths of files in a space.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use unicode_normalization::is_nfc;

use crate::visible::{is_directional, is_visible};

/// The maximum length of a path in bytes of UTF-8.
pub const MAX_PATH_BYTES: usize = 1024;

/// The maximum length of a segment of a new path in bytes of UTF-8: the longest file name of common file
/// systems (Linux `NAME_MAX`).
pub const MAX_SEGMENT_BYTES: usize = 255;

/// An absolute path such as `/Docs/a.pdf`: segments separated by `/`, in Unicode normalization form C (NFC).
///
/// Paths are case-sensitive: `/a` and `/A` are two files. S3 keys never contain paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpacePath(String);

/// The reason why a text is not a valid path.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidPath {
    /// The path does not begin with `/`.
    #[error("a path begins with /")]
    Relative,
    /// The path is longer than [`MAX_PATH_BYTES`].
    #[error("a path has at most {MAX_PATH_BYTES} bytes of UTF-8")]
    TooLong,
    /// A segment is empty, `.` or `..`; `/` alone and a trailing slash count as an empty segment.
    #[error("no segment of a path is empty, . or ..")]
    Segment,
    /// The path has a control character.
    #[error("a path holds no control character")]
    Control,
    /// The path is not in NFC, the form in which equal names have equal bytes.
    #[error("a path is in Unicode normalization form C (NFC)")]
    NotNormalized,
    /// A segment of a new path is longer than [`MAX_SEGMENT_BYTES`].
    #[error("a segment of a path has at most {MAX_SEGMENT_BYTES} bytes of UTF-8")]
    SegmentTooLong,
    /// A new path has a character that changes the direction of text.
    #[error("a path holds no bidirectional control character (U+202A to U+202E, U+2066 to U+2069)")]
    Directional,
    /// A segment of a new path has no visible character.
    #[error("each segment of a path has a character that can be seen")]
    Invisible,
}

impl SpacePath {
    /// Checks the additional rules for new files: segment length, text direction and visible characters.
    /// Earlier releases accepted more paths, so the paths of existing files are not checked against these
    /// rules.
    pub fn for_new_file(self) -> Result<Self, InvalidPath> {
        if self.0.split('/').any(|segment| segment.len() > MAX_SEGMENT_BYTES) {
            return Err(InvalidPath::SegmentTooLong);
        }
        if self.0.chars().any(is_directional) {
            return Err(InvalidPath::Directional);
        }
        if !self.0.split('/').skip(1).all(is_visible) {
            return Err(InvalidPath::Invisible);
        }
        Ok(self)
    }

    /// Deserializes the path of a request that creates or moves a file, and applies [`Self::for_new_file`].
    pub(crate) fn deserialize_new<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)?
            .for_new_file()
            .map_err(de::Error::custom)
    }

    /// The path with its leading `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders that contain the path, outermost first: `/a` and `/a/b` for `/a/b/c`.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').skip(1).map(|(end, _)| &self.0[..end])
    }

    /// Whether files cannot be at both paths: they are equal, or one is a folder of the other.
    pub fn excludes(&self, other: &Self) -> bool {
        let contains = |folder: &Self, path: &Self| {
            path.0
                .strip_prefix(&folder.0)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        contains(self, other) || contains(other, self)
    }

    /// The last segment, without `/`.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl TryFrom<String> for SpacePath {
    type Error = InvalidPath;

    fn try_from(text: String) -> Result<Self, InvalidPath> {
        if text.len() > MAX_PATH_BYTES {
            return Err(InvalidPath::TooLong);
        }
        let relative = text.strip_prefix('/').ok_or(InvalidPath::Relative)?;
        if relative
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
        {
            return Err(InvalidPath::Segment);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidPath::Control);
        }
        if !is_nfc(&text) {
            return Err(InvalidPath::NotNormalized);
        }
        Ok(Self(text))
    }
}

impl FromStr for SpacePath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        text.to_owned().try_into()
    }
}

impl From<SpacePath> for String {
    fn from(path: SpacePath) -> Self {
        path.0
    }
}

impl fmt::Display for SpacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A filter for lists: the text that paths begin with, such as `/Docs/` or `/Docs/20`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PathPrefix(String);

impl PathPrefix {
    /// The half-open range of paths with this prefix, ordered by code point: the first bound is included, the
    /// second is excluded.
    pub fn bounds(&self) -> (String, String) {
        let mut kept: Vec<char> = self.0.chars().collect();
        // Increment the last code point. If it has no successor (U+10FFFF), drop it and increment the one
        // before.
        while let Some(last) = kept.pop() {
            if let Some(next) = next_code_point(last) {
                kept.push(next);
                break;
            }
        }
        (self.0.clone(), kept.into_iter().collect())
    }
}

fn next_code_point(c: char) -> Option<char> {
    // Skip the surrogates (U+D800 to U+DFFF), which are not characters.
    if c == '\u{D7FF}' {
        Some('\u{E000}')
    } else {
        char::from_u32(u32::from(c) + 1)
    }
}

/// A folder of a space. Folders are no objects: one exists while it contains files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct FolderPath(Option<SpacePath>);

impl FolderPath {
    /// The beginning that all paths in the folder have, and an exclusive upper bound of them, both in byte
    /// order.
    pub fn bounds(&self) -> (String, String) {
        let path = self.0.as_ref().map_or("", SpacePath::as_str);
        // 0 is the character after /.
        (format!("{path}/"), format!("{path}0"))
    }
}

impl TryFrom<String> for FolderPath {
    type Error = InvalidPath;

    /// An empty text is the root.
    fn try_from(text: String) -> Result<Self, InvalidPath> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        SpacePath::try_from(text).map(|path| Self(Some(path)))
    }
}

/// What a folder contains directly, as a position in its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderKey {
    /// A file at this path.
    File(SpacePath),
    /// A folder with this path.
    Folder(SpacePath),
}

impl FolderKey {
    /// The lower bound, in byte order, of the paths that come after this and all that it contains.
    pub fn next(&self) -> String {
        match self {
            // Paths contain no control characters.
            Self::File(path) => format!("{path}\u{1}"),
            Self::Folder(path) => format!("{path}0"),
        }
    }
}

impl fmt::Display for FolderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path}"),
            Self::Folder(path) => write!(f, "{path}/"),
        }
    }
}

impl FromStr for FolderKey {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        match text.strip_suffix('/') {
            Some(folder) => folder.parse().map(Self::Folder),
            None => text.parse().map(Self::File),
        }
    }
}

impl Default for PathPrefix {
    /// The prefix of all paths: `/`.
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl TryFrom<String> for PathPrefix {
    type Error = InvalidPath;

    fn try_from(text: String) -> Result<Self, InvalidPath> {
        if text.len() > MAX_PATH_BYTES {
            Err(InvalidPath::TooLong)
        } else if !text.starts_with('/') {
            Err(InvalidPath::Relative)
        } else if text.chars().any(char::is_control) {
            Err(InvalidPath::Control)
        } else if !is_nfc(&text) {
            Err(InvalidPath::NotNormalized)
        } else {
            Ok(Self(text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_excludes_itself_its_folders_and_the_paths_in_it() {
        let path = |text: &str| text.parse::<SpacePath>().unwrap();
        for (one, other, excludes) in [
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a/b/c", "/a", true),
            ("/a", "/ab", false),
            ("/a/b", "/a/c", false),
        ] {
            assert_eq!(path(one).excludes(&path(other)), excludes, "{one} {other}");
        }
    }

    #[test]
    fn ordinary_paths_are_kept_as_they_are() {
        let longest = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
        for good in [
            "/a",
            "/Docs/a.pdf",
            "/Übung/日本/🦀.txt",
            "/...",
            "/.hidden",
            "/a b",
            &longest,
        ] {
            assert_eq!(good.parse::<SpacePath>().map(String::from), Ok(good.to_owned()));
        }
    }

    #[test]
    fn a_path_is_in_its_folders_and_not_in_itself() {
        let folders = |path: &str| {
            let path: SpacePath = path.parse().unwrap();
            path.folders().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(folders("/a"), Vec::<String>::new());
        assert_eq!(folders("/a/ü/c"), ["/a", "/a/ü"]);
    }

    #[test]
    fn what_is_no_path_says_why() {
        let too_long = format!("/{}", "ü".repeat(MAX_PATH_BYTES / 2));
        let cases = [
            ("", InvalidPath::Relative),
            ("a", InvalidPath::Relative),
            ("/", InvalidPath::Segment),
            ("/a/", InvalidPath::Segment),
            ("/a//b", InvalidPath::Segment),
            ("/./a", InvalidPath::Segment),
            ("/a/..", InvalidPath::Segment),
            ("/a\nb", InvalidPath::Control),
            ("/a\0", InvalidPath::Control),
            ("/a\u{85}", InvalidPath::Control),
            ("/U\u{308}bung", InvalidPath::NotNormalized),
            (&too_long, InvalidPath::TooLong),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<SpacePath>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_new_path_has_names_that_a_file_system_holds_and_people_can_tell_apart() {
        let new = |text: &str| text.parse::<SpacePath>().unwrap().for_new_file();
        let (longest, marked) = (
            format!("/{}/a", "ü".repeat(127)),
            "/\u{200f}a\u{200e}/שלום/a\u{200d}b",
        );
        for good in [
            "/a",
            "/a b",
            "/ a",
            "/\u{fe0f}🦀",
            &longest,
            &format!("/a{longest}"),
            marked,
        ] {
            assert!(new(good).is_ok(), "{good:?}");
        }
        let (first, last) = (
            format!("/{}/a", "a".repeat(256)),
            format!("/a/{}", "ü".repeat(128)),
        );
        for (bad, why) in [
            (first.as_str(), InvalidPath::SegmentTooLong),
            (&last, InvalidPath::SegmentTooLong),
            ("/invoice\u{202e}fdp.exe", InvalidPath::Directional),
            ("/a\u{202a}/b", InvalidPath::Directional),
            ("/a\u{2066}", InvalidPath::Directional),
            ("/a\u{2069}b", InvalidPath::Directional),
            ("/\u{200b}", InvalidPath::Invisible),
            ("/a/\u{ad}\u{2060}/b", InvalidPath::Invisible),
            ("/ \u{3000}", InvalidPath::Invisible),
            ("/a/\u{3164}", InvalidPath::Invisible),
        ] {
            assert_eq!(new(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_bounds_its_paths_and_no_others() {
        let prefix = |text: &str| PathPrefix::try_from(text.to_owned()).unwrap();
        let cases = [
            ("/", "0"),
            ("/a", "/b"),
            ("/Docs/", "/Docs0"),
            ("/\u{D7FF}", "/\u{E000}"),
            ("/a\u{10FFFF}", "/b"),
            ("/\u{10FFFF}\u{10FFFF}", "0"),
        ];
        for (text, end) in cases {
            let (from, to) = prefix(text).bounds();
            assert_eq!((from.as_str(), to.as_str()), (text, end));
            let within = format!("{text}\u{10FFFF}/x");
            assert!(from <= within && within < to, "{text:?}");
        }
        for bad in ["", "a", "/\n", "/U\u{308}"] {
            assert!(PathPrefix::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_folder_bounds_what_it_contains_and_a_position_what_comes_before() {
        let folder = |text: &str| FolderPath::try_from(text.to_owned());
        assert_eq!(folder("").unwrap().bounds(), ("/".to_owned(), "0".to_owned()));
        assert_eq!(
            folder("/a").unwrap().bounds(),
            ("/a/".to_owned(), "/a0".to_owned())
        );
        for bad in ["/", "a", "/a/", "/a//b"] {
            assert!(folder(bad).is_err(), "{bad:?}");
        }
        let (file, inner) = (
            FolderKey::File("/a".parse().unwrap()),
            FolderKey::Folder("/a".parse().unwrap()),
        );
        for (key, after) in [(&file, "/a b"), (&inner, "/a0")] {
            assert_eq!(key.to_string().parse().as_ref(), Ok(key));
            assert!(key.next().as_str() <= after);
        }
        assert!(file.next().as_str() > "/a");
        assert!(inner.next().as_str() > "/a/\u{10FFFF}");
    }
}
