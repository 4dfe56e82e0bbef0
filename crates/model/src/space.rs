//! Spaces: kinds, names and the roles of members.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;
use time::Duration;
use unicode_normalization::is_nfc;

use crate::visible::{is_directional, is_visible};

/// The rights of a member. Each role includes the rights of the roles before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May see files and changes.
    Viewer,
    /// May upload, move and delete files.
    Editor,
    /// May add and remove members and change their roles.
    Owner,
}

/// The text is not the name of a role.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a role is owner, editor or viewer")]
pub struct InvalidRole;

impl Role {
    /// The role's name in JSON and PostgreSQL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Owner => "owner",
        }
    }
}

impl TryFrom<&str> for Role {
    type Error = InvalidRole;

    fn try_from(text: &str) -> Result<Self, InvalidRole> {
        [Self::Viewer, Self::Editor, Self::Owner]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(InvalidRole)
    }
}

/// The kind of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpaceKind {
    /// The space of one user. It cannot be shared.
    Personal,
    /// A space with one or more members.
    Shared,
}

/// The text is not the name of a kind of space.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a space is personal or shared")]
pub struct InvalidSpaceKind;

impl TryFrom<&str> for SpaceKind {
    type Error = InvalidSpaceKind;

    fn try_from(text: &str) -> Result<Self, InvalidSpaceKind> {
        match text {
            "personal" => Ok(Self::Personal),
            "shared" => Ok(Self::Shared),
            _ => Err(InvalidSpaceKind),
        }
    }
}

/// How long an invitation can be accepted.
pub const INVITATION_LIFETIME: Duration = Duration::days(30);

/// The maximum number of members of a space. Each change of a space is addressed to all its members.
pub const MAX_MEMBERS: i32 = 1_000;

/// The maximum length of a space's name in bytes of UTF-8.
pub const MAX_SPACE_NAME_BYTES: usize = 255;

/// The name of a shared space, in Unicode normalization form C (NFC).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpaceName(String);

/// The text is blank, too long, not in NFC, or has a control character.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a name has 1 to {MAX_SPACE_NAME_BYTES} bytes of UTF-8 in Unicode normalization form C (NFC), not all of them blank, \
     and no control character"
)]
pub struct InvalidSpaceName;

/// The name has no visible character, or has one that changes the direction of text.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a name has a character that can be seen, and no bidirectional control character (U+202A to U+202E, U+2066 to U+2069)"
)]
pub struct InvisibleSpaceName;

impl SpaceName {
    /// Checks the additional rules for new spaces: text direction and visible characters. Earlier releases
    /// accepted more names, so the names of existing spaces are not checked against these rules.
    pub fn for_new_space(self) -> Result<Self, InvisibleSpaceName> {
        let valid = is_visible(&self.0) && !self.0.chars().any(is_directional);
        if valid { Ok(self) } else { Err(InvisibleSpaceName) }
    }

    /// Deserializes the name in a request that creates a space, and applies [`Self::for_new_space`].
    pub(crate) fn deserialize_new<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)?
            .for_new_space()
            .map_err(de::Error::custom)
    }

    /// The name, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SpaceName {
    type Error = InvalidSpaceName;

    fn try_from(text: String) -> Result<Self, InvalidSpaceName> {
        let valid = text.len() <= MAX_SPACE_NAME_BYTES
            && !text.trim().is_empty()
            && !text.chars().any(char::is_control)
            && is_nfc(&text);
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidSpaceName)
        }
    }
}

impl FromStr for SpaceName {
    type Err = InvalidSpaceName;

    fn from_str(text: &str) -> Result<Self, InvalidSpaceName> {
        text.to_owned().try_into()
    }
}

impl From<SpaceName> for String {
    fn from(name: SpaceName) -> Self {
        name.0
    }
}

impl fmt::Display for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_ordered_by_what_they_allow_and_named_alike_in_json_and_sql() {
        assert!(Role::Owner > Role::Editor && Role::Editor > Role::Viewer);
        for role in [Role::Owner, Role::Editor, Role::Viewer] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
            assert_eq!(Role::try_from(role.as_str()), Ok(role));
        }
        assert_eq!(Role::try_from("admin"), Err(InvalidRole));
    }

    #[test]
    fn a_name_is_something_that_people_can_read() {
        for good in ["a", "Köln 2026 🦀", &"x".repeat(255)] {
            let name: SpaceName = good.parse().unwrap();
            assert!(name.for_new_space().is_ok(), "{good}");
        }
        for bad in ["\u{200b}", "\u{2060} \u{ad}", "Team\u{202e}", "\u{2067}Team"] {
            let name: SpaceName = bad.parse().unwrap();
            assert_eq!(name.for_new_space(), Err(InvisibleSpaceName), "{bad:?}");
        }
        for bad in ["", "  ", "\u{3000}", "a\nb", "U\u{308}", &"x".repeat(256)] {
            assert_eq!(bad.parse::<SpaceName>(), Err(InvalidSpaceName), "{bad:?}");
        }
    }
}
