//! Secrets that are returned once and stored only as a hash.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

use crate::digest::sha256;

/// The operating system gave no random numbers.
#[derive(Clone, Copy, Debug, Error)]
#[error("the operating system gave no random numbers")]
pub struct NoRandomness;

/// The number of random bytes in a secret.
const SECRET_BYTES: usize = 32;

/// Generates a secret: 256 random bits as 43 characters of unpadded base64url.
pub fn new_secret() -> Result<String, NoRandomness> {
    let mut bits = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut bits).map_err(|_| NoRandomness)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bits))
}

/// Whether a text has the format of [`new_secret`]. Other texts need no database query.
pub fn is_secret(text: &str) -> bool {
    BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|bits| bits.len() == SECRET_BYTES)
}

/// The SHA-256 under which a secret is stored. 256 random bits cannot be guessed, so neither a salt nor a
/// slow hash is needed.
pub fn secret_hash(secret: &str) -> [u8; 32] {
    sha256(secret.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_url_safe() {
        let (one, other) = (new_secret().unwrap(), new_secret().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 43);
        assert!(
            one.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert_ne!(secret_hash(&one), secret_hash(&other));
        assert!(is_secret(&one) && is_secret(&other));
    }

    #[test]
    fn what_no_secret_looks_like_is_none() {
        let good = "A".repeat(43);
        assert!(is_secret(&good));
        for bad in [
            "",
            "x",
            &good[1..],
            &format!("{good}A"),
            &format!("{good}="),
            &good.replacen('A', "+", 1),
            &"ä".repeat(43),
        ] {
            assert!(!is_secret(bad), "{bad}");
        }
    }
}
