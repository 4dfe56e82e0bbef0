//! Identifiers. All are UUIDs except user ids. UUIDs made by SyncSphere are version 7, so they sort by age.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The text is not a hyphenated UUID.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an id is a UUID such as 0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908")]
pub struct InvalidId;

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "Uuid")]
        pub struct $name(Uuid);

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // `Uuid` also parses braced, URN and unhyphenated forms. The length excludes them.
                let id = (text.len() == Hyphenated::LENGTH).then(|| text.parse());
                id.and_then(Result::ok).map(Self).ok_or(InvalidId)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_newtype! {
    /// Identifies a space, personal or shared.
    SpaceId
}
uuid_newtype! {
    /// Identifies a file. It stays the same through all versions and moves.
    FileId
}
uuid_newtype! {
    /// Identifies an upload: one attempt to add a version of a file.
    UploadId
}
uuid_newtype! {
    /// Identifies an invitation to a space.
    InvitationId
}
uuid_newtype! {
    /// Identifies the event of one change. It is the same on every delivery.
    EventId
}
uuid_newtype! {
    /// Identifies the history of the database. Restoring the database from a backup begins a new epoch, because
    /// sequence numbers that clients have seen may then be given to other changes.
    Epoch
}
uuid_newtype! {
    /// Identifies a device. The device chooses its id, so the id is informative and does not authenticate.
    DeviceId
}

impl UploadId {
    /// The S3 key of the content. Each upload has its own key, derived from the server-made id and from no
    /// user input.
    pub fn object_key(self) -> String {
        format!("objects/{self}")
    }

    /// The upload whose content has this S3 key; `None` if the key is not one of [`Self::object_key`].
    pub fn of_object_key(key: &str) -> Option<Self> {
        key.strip_prefix("objects/")?.parse().ok()
    }
}

/// The maximum length of a user id in bytes: `sub` has at most 255 ASCII characters (OpenID Connect Core 1.0,
/// section 2).
const MAX_USER_ID_BYTES: usize = 255;

/// What stands in place of the id of a user who has erased the account.
pub const DELETED_USER: &str = "deleted user";

/// A user: the `sub` claim of the token that API Gateway verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

/// The text is empty, too long or has a control character.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a user id has 1 to {MAX_USER_ID_BYTES} bytes and no control character")]
pub struct InvalidUserId;

impl UserId {
    /// The `sub` claim, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserId {
    type Error = InvalidUserId;

    fn try_from(text: String) -> Result<Self, InvalidUserId> {
        let valid = (1..=MAX_USER_ID_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        if valid { Ok(Self(text)) } else { Err(InvalidUserId) }
    }
}

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        text.to_owned().try_into()
    }
}

impl From<UserId> for String {
    fn from(user: UserId) -> Self {
        user.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_form() {
        let text = "0192f0c1-7a5e-7e4e-8f6a-0d5c3b2a1908";
        let id: FileId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(id));
        assert_eq!(serde_json::to_value(id).unwrap(), text);
        assert_eq!(serde_json::from_value::<FileId>(text.into()).unwrap(), id);
        let others = [
            format!("{{{text}}}"),
            text.replace('-', ""),
            format!("urn:uuid:{text}"),
            format!("{text} "),
            text.replace('-', "_"),
        ];
        for other in others {
            assert_eq!(other.parse::<FileId>(), Err(InvalidId), "{other}");
            assert!(serde_json::from_value::<FileId>(other.into()).is_err());
        }
    }

    #[test]
    fn a_user_id_is_neither_empty_nor_endless_nor_unprintable() {
        assert!(UserId::try_from("a".repeat(255)).is_ok());
        for bad in [String::new(), "a".repeat(256), "a\0b".into()] {
            assert_eq!(UserId::try_from(bad), Err(InvalidUserId));
        }
    }
}
