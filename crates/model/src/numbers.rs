//! Numbers with a range, and short texts with a maximum length.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::Duration;

/// The number is outside the range of its type.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("must be a whole number from {least} to {most}")]
pub struct InvalidNumber {
    least: i64,
    most: i64,
}

macro_rules! number_newtype {
    ($(#[$doc:meta])* $name:ident, $least:expr, $most:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "i64", into = "i64")]
        pub struct $name(i64);

        impl $name {
            /// The number, as PostgreSQL stores it (`bigint`).
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = InvalidNumber;

            fn try_from(number: i64) -> Result<Self, InvalidNumber> {
                if ($least..=$most).contains(&number) {
                    Ok(Self(number))
                } else {
                    Err(InvalidNumber { least: $least, most: $most })
                }
            }
        }

        impl From<$name> for i64 {
            fn from(number: $name) -> Self {
                number.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidNumber;

            fn from_str(text: &str) -> Result<Self, InvalidNumber> {
                let number: i64 = text.parse().map_err(|_| InvalidNumber { least: $least, most: $most })?;
                number.try_into()
            }
        }
    };
}

number_newtype! {
    /// A size in bytes: 0 to 5 TiB, the size of S3's largest object (Amazon S3 User Guide, "Amazon S3
    /// multipart upload limits").
    ByteCount, 0, 5 * 1024 * 1024 * 1024 * 1024
}
number_newtype! {
    /// A file's version: 1, 2, 3 …; 0 means that the path holds no file.
    Version, 0, i64::MAX
}
number_newtype! {
    /// A change's number in its space: 1, 2, 3 … without gaps, in commit order.
    Sequence, 1, i64::MAX
}
number_newtype! {
    /// A position in a space's feed: after the change with this sequence number; 0 is before the first
    /// change.
    Cursor, 0, i64::MAX
}
number_newtype! {
    /// The number of a part in a multipart upload: 1 to 10,000 (Amazon S3 User Guide, "Amazon S3 multipart
    /// upload limits").
    PartNumber, 1, crate::parts::MAX_PARTS
}
number_newtype! {
    /// The maximum number of items in a page: 1 to 1,000, 100 by default.
    PageLimit, 1, 1_000
}

number_newtype! {
    /// A retention time in whole days: 1 to 3,650.
    Days, 1, 3_650
}
number_newtype! {
    /// The number of versions that a file keeps besides its newest one: 0 to 1,000,000.
    KeptVersions, 0, 1_000_000
}

impl From<Days> for Duration {
    fn from(days: Days) -> Self {
        Self::days(days.0)
    }
}

impl Default for Cursor {
    /// [`Cursor::START`].
    fn default() -> Self {
        Self::START
    }
}

impl From<Sequence> for Cursor {
    /// The position after this change.
    fn from(sequence: Sequence) -> Self {
        Self(sequence.0)
    }
}

impl Cursor {
    /// The position before the first change.
    pub const START: Self = Self(0);
}

impl PageLimit {
    /// The limit for requests without one.
    pub(crate) const DEFAULT: Self = Self(100);
}

/// The maximum length of a content type in bytes.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// A media type such as `text/plain; charset=utf-8`, kept as the uploader sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentType(String);

/// The text is not a media type, or is too long.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a content type is type/subtype in printable ASCII, at most {MAX_CONTENT_TYPE_BYTES} bytes")]
pub struct InvalidContentType;

impl ContentType {
    /// The media type with its parameters, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContentType {
    type Error = InvalidContentType;

    fn try_from(text: String) -> Result<Self, InvalidContentType> {
        // RFC 9110, section 8.3.1: two tokens with a slash between; parameters may follow.
        let essence = text.split(';').next().unwrap_or_default().trim_end();
        let token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
        let valid = text.len() <= MAX_CONTENT_TYPE_BYTES
            && printable
            && essence
                .split_once('/')
                .is_some_and(|(kind, subtype)| token(kind) && token(subtype));
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidContentType)
        }
    }
}

impl From<ContentType> for String {
    fn from(content_type: ContentType) -> Self {
        content_type.0
    }
}

/// The maximum length of an idempotency key in bytes.
pub const MAX_IDEMPOTENCY_KEY_BYTES: usize = 255;

/// A client's name for a request. A repeated request with the same key has no second effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

/// The text is empty, too long or not printable ASCII.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY_BYTES} printable ASCII characters")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// The key as the client sent it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = InvalidIdempotencyKey;

    fn try_from(text: String) -> Result<Self, InvalidIdempotencyKey> {
        text.parse()
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidIdempotencyKey;

    fn from_str(text: &str) -> Result<Self, InvalidIdempotencyKey> {
        let valid = (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&text.len())
            && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidIdempotencyKey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idempotency_key_fits_into_a_header() {
        for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", &"x".repeat(255)] {
            assert!(good.parse::<IdempotencyKey>().is_ok(), "{good}");
        }
        for bad in ["", "ä", "a\tb", &"x".repeat(256)] {
            assert_eq!(bad.parse::<IdempotencyKey>(), Err(InvalidIdempotencyKey), "{bad}");
        }
    }

    #[test]
    fn sizes_end_at_five_tebibytes() {
        assert!(ByteCount::try_from(0).is_ok());
        assert!(ByteCount::try_from(5_497_558_138_880).is_ok());
        assert!(ByteCount::try_from(5_497_558_138_881).is_err());
        assert!(ByteCount::try_from(-1).is_err());
    }

    #[test]
    fn content_types_are_media_types() {
        for good in [
            "text/plain",
            "text/plain; charset=utf-8",
            "application/vnd.api+json",
        ] {
            assert!(ContentType::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text",
            "/plain",
            "text/",
            "te xt/plain",
            "text/plain\r\nX-Evil: 1",
            "text/plän",
        ] {
            assert_eq!(
                ContentType::try_from(bad.to_owned()),
                Err(InvalidContentType),
                "{bad}"
            );
        }
    }
}
