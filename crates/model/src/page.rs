//! Pagination of lists.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

use crate::numbers::PageLimit;

impl Default for PageLimit {
    /// 100 items.
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The start of the next page: after the item with this key. Clients treat the token as opaque text. It stays
/// valid when items are added or removed, because it holds a key and not an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageToken<T>(pub T);

/// The text is not a page token of this list.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("this is no page token of this list")]
pub struct InvalidPageToken;

impl<T: fmt::Display> fmt::Display for PageToken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_URL_SAFE_NO_PAD.encode(self.0.to_string()))
    }
}

impl<T: FromStr> FromStr for PageToken<T> {
    type Err = InvalidPageToken;

    fn from_str(text: &str) -> Result<Self, InvalidPageToken> {
        let bytes = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| InvalidPageToken)?;
        let item = String::from_utf8(bytes).map_err(|_| InvalidPageToken)?;
        item.parse().map(Self).map_err(|_| InvalidPageToken)
    }
}

impl<T: fmt::Display> Serialize for PageToken<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for PageToken<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The query parameters of a list that takes no others.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "K: FromStr")]
pub struct PageQuery<K> {
    /// The maximum number of items in the page.
    #[serde(default)]
    pub limit: PageLimit,
    /// The start of the page; `None` for the first page.
    pub page_token: Option<PageToken<K>>,
}

/// Splits items into a page and the token of the next page. The caller reads one item more than `limit`; the
/// extra item shows that there is a next page. The token is `None` on the last page.
pub fn page<T, K>(
    mut items: Vec<T>,
    limit: PageLimit,
    key: impl Fn(&T) -> K,
) -> (Vec<T>, Option<PageToken<K>>) {
    let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| PageToken(key(last)));
    (items, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SpacePath, Version};

    #[test]
    fn a_token_comes_back_as_what_it_was() {
        let token = PageToken("/Übung/🦀".parse::<SpacePath>().unwrap());
        assert_eq!(token.to_string().parse(), Ok(token));
        let token = PageToken(Version::try_from(7).unwrap());
        assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn what_is_no_token_or_one_of_another_list_is_refused() {
        for bad in ["", "!", "AAAA", &PageToken("relative").to_string()] {
            assert_eq!(
                bad.parse::<PageToken<SpacePath>>(),
                Err(InvalidPageToken),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_page_has_a_successor_only_if_more_was_there() {
        let limit = PageLimit::try_from(2).unwrap();
        assert_eq!(page(vec![1, 2], limit, |n| *n), (vec![1, 2], None));
        assert_eq!(
            page(vec![1, 2, 3], limit, |n| *n),
            (vec![1, 2], Some(PageToken(2)))
        );
        assert_eq!(page(Vec::<i32>::new(), limit, |n| *n), (vec![], None));
    }
}
