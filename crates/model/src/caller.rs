//! The caller of a request: a user, as the verified token describes them, and the history that the client knows.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::visible::{is_directional, is_visible};
use crate::{Epoch, UserId};

/// The caller of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user id: the `sub` claim.
    pub user_id: UserId,
    /// The epoch that the client knows, if the request names one. A request with another epoch than the
    /// current one is rejected and changes nothing.
    pub epoch: Option<Epoch>,
    /// The user's profile according to the token.
    pub profile: Profile,
}

impl From<UserId> for Caller {
    /// A caller without a profile, whose client knows no epoch.
    fn from(user_id: UserId) -> Self {
        Self {
            user_id,
            epoch: None,
            profile: Profile::default(),
        }
    }
}

/// The claims of a token that describe a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The claim `name`; `None` if it is missing or cannot be shown.
    pub name: Option<PersonName>,
    /// The claim `email`, only if the claim `email_verified` is true.
    pub email: Option<EmailAddress>,
}

/// The maximum length of a person's name in bytes of UTF-8.
pub const MAX_PERSON_NAME_BYTES: usize = 255;

/// The name of a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PersonName(String);

/// The text is empty, too long, invisible, or has a control character.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "a person's name has 1 to {MAX_PERSON_NAME_BYTES} bytes of UTF-8, a character that can be seen, and no control character"
)]
pub struct InvalidPersonName;

impl PersonName {
    /// The name, unchanged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PersonName {
    type Error = InvalidPersonName;

    fn try_from(text: String) -> Result<Self, InvalidPersonName> {
        let valid = text.len() <= MAX_PERSON_NAME_BYTES
            && is_visible(&text)
            && !text.chars().any(|c| c.is_control() || is_directional(c));
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidPersonName)
        }
    }
}

impl From<PersonName> for String {
    fn from(name: PersonName) -> Self {
        name.0
    }
}

/// The maximum length of an e-mail address in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const MAX_EMAIL_BYTES: usize = 254;

/// An e-mail address in lower case. Mail servers ignore case in practice, and people write addresses in any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

/// The text has not the form of an e-mail address.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("an e-mail address is like ada@example.com, and has at most {MAX_EMAIL_BYTES} bytes")]
pub struct InvalidEmailAddress;

impl EmailAddress {
    /// The address in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = InvalidEmailAddress;

    fn try_from(text: String) -> Result<Self, InvalidEmailAddress> {
        let valid = text.len() <= MAX_EMAIL_BYTES
            && !text
                .chars()
                .any(|c| c.is_control() || c.is_whitespace() || is_directional(c))
            && text.rsplit_once('@').is_some_and(|(local, domain)| {
                !local.is_empty() && !domain.is_empty() && !domain.starts_with('.') && !domain.ends_with('.')
            });
        let lower = text.to_lowercase();
        if valid && lower.len() <= MAX_EMAIL_BYTES {
            Ok(Self(lower))
        } else {
            Err(InvalidEmailAddress)
        }
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidEmailAddress;

    fn from_str(text: &str) -> Result<Self, InvalidEmailAddress> {
        text.to_owned().try_into()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> Self {
        address.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_person_can_be_shown() {
        for good in ["Ada", "Ада Лавлейс", "J.", &"x".repeat(255)] {
            assert_eq!(PersonName::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        for bad in ["", " ", "\u{200b}", "a\nb", "Ada\u{202e}", &"x".repeat(256)] {
            assert_eq!(
                PersonName::try_from(bad.to_owned()),
                Err(InvalidPersonName),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn addresses_that_differ_in_case_are_one() {
        let address: EmailAddress = "Ada.Lovelace@Example.COM".parse().unwrap();
        assert_eq!(address.as_str(), "ada.lovelace@example.com");
        for bad in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@.com",
            "a da@example.com",
            &format!("{}@a", "x".repeat(253)),
        ] {
            assert_eq!(bad.parse::<EmailAddress>(), Err(InvalidEmailAddress), "{bad:?}");
        }
    }
}
