//! SHA-256 as S3 writes it: 32 bytes in padded standard base64.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A SHA-256 digest. JSON and S3 headers hold it as base64 (44 characters).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// The text or the bytes are not a SHA-256 digest.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a sha256 is 32 bytes in base64 (44 characters with padding)")]
pub struct InvalidSha256;

impl Sha256 {
    /// The 32 bytes, as PostgreSQL stores them (`bytea`).
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Sha256 {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for Sha256 {
    type Error = InvalidSha256;

    fn try_from(bytes: &[u8]) -> Result<Self, InvalidSha256> {
        bytes.try_into().map(Self).map_err(|_| InvalidSha256)
    }
}

impl FromStr for Sha256 {
    type Err = InvalidSha256;

    fn from_str(text: &str) -> Result<Self, InvalidSha256> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| InvalidSha256)?;
        bytes.as_slice().try_into()
    }
}

impl TryFrom<String> for Sha256 {
    type Error = InvalidSha256;

    fn try_from(text: String) -> Result<Self, InvalidSha256> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(digest: Sha256) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of empty content, in the form that S3 shows.
    const EMPTY: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

    #[test]
    fn base64_goes_in_and_comes_out_the_same() {
        assert_eq!(
            EMPTY.parse::<Sha256>().map(|digest| digest.to_string()),
            Ok(EMPTY.to_owned())
        );
    }

    #[test]
    fn hexadecimal_short_and_unpadded_text_is_refused() {
        let hexadecimal = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in ["", "AAAA", hexadecimal, EMPTY.trim_end_matches('=')] {
            assert_eq!(bad.parse::<Sha256>(), Err(InvalidSha256), "{bad}");
        }
    }
}
