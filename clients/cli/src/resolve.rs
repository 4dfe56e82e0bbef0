//! Parsing of paths and spaces from the command line.

use client::{Client, sha256};
use model::{SpaceId, SpaceKind, SpacePath, SpaceView};
use unicode_normalization::UnicodeNormalization as _;

use crate::failure::{Kind, failure};

/// The name of the personal space on the command line.
const PERSONAL: &str = "personal";

/// Parses a path: normalizes it to Unicode form C and makes it absolute.
pub fn path(text: &str) -> anyhow::Result<SpacePath> {
    if text.len() > 1 && text.ends_with('/') {
        let message =
            format!("{text:?} names a folder, but the command needs a file, such as \"{text}NAME\"");
        return Err(failure(Kind::Usage, message));
    }
    let normalized: String = text.nfc().collect();
    let absolute = if normalized.starts_with('/') {
        normalized
    } else {
        format!("/{normalized}")
    };
    absolute
        .parse()
        .map_err(|error| failure(Kind::Usage, format!("{text:?} is not a valid path: {error}")))
}

/// The path of a file: `to`, or `name` in `to` if that is empty or ends in `/`.
pub fn inside(to: &str, name: &str) -> anyhow::Result<SpacePath> {
    if to.is_empty() || to.ends_with('/') {
        path(&format!("{to}{name}"))
    } else {
        path(to)
    }
}

/// A short file name for a text: the first 16 bytes of its SHA-256, in hexadecimal.
pub fn short_name(text: &str) -> String {
    let digest = sha256(text.as_bytes());
    let half = digest.as_bytes().iter().take(16);
    half.map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat()
}

/// The ID of a space, or `None` for the personal space.
pub async fn space(client: &Client, space: Option<&str>) -> anyhow::Result<Option<SpaceId>> {
    match space {
        None | Some(PERSONAL) => Ok(None),
        Some(text) => Ok(Some(shared_space(client, text).await?)),
    }
}

/// Lists the spaces, unless the client has done so. From then on, its requests name the epoch: if the service
/// is restored to an earlier state after a command has looked files up, the command changes nothing.
pub async fn epoch(client: &Client) -> anyhow::Result<()> {
    if client.epoch().is_none() {
        client.all_spaces().await?;
    }
    Ok(())
}

/// The ID of a shared space, from its name or ID.
pub async fn shared_space(client: &Client, text: &str) -> anyhow::Result<SpaceId> {
    if let Ok(space_id) = text.parse() {
        return Ok(space_id);
    }
    let spaces = client.all_spaces().await?;
    let named: Vec<SpaceId> = spaces
        .iter()
        .filter(|space| name(space) == text)
        .map(|space| space.space_id)
        .collect();
    match named[..] {
        [space_id] => Ok(space_id),
        [] => Err(failure(
            Kind::NotFound,
            format!("you are not a member of a space named {text:?}; `syncsphere spaces` lists your spaces"),
        )),
        _ => {
            let ids: Vec<String> = named.iter().map(ToString::to_string).collect();
            let ids = ids.join(", ");
            Err(failure(
                Kind::Usage,
                format!("several spaces are named {text:?}; use the ID of one of them: {ids}"),
            ))
        }
    }
}

/// The view of a space; `None` selects the personal space.
pub async fn view(client: &Client, space: Option<&str>) -> anyhow::Result<SpaceView> {
    let wanted = self::space(client, space).await?;
    let spaces = client.all_spaces().await?;
    let found = spaces.into_iter().find(|space| match wanted {
        Some(space_id) => space.space_id == space_id,
        None => space.kind == SpaceKind::Personal,
    });
    found.ok_or_else(|| match wanted {
        Some(_) => failure(
            Kind::NotFound,
            "the space does not exist, or you are not a member of it; `syncsphere spaces` lists your spaces",
        ),
        None => failure(
            Kind::NotFound,
            "your personal space does not exist yet; the first upload to it creates it",
        ),
    })
}

pub fn name(space: &SpaceView) -> &str {
    space.name.as_ref().map_or(PERSONAL, |name| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_normalized() {
        assert_eq!(path("a/b").unwrap().as_str(), "/a/b");
        // The decomposed form that macOS uses in file names.
        assert_eq!(path("/u\u{308}").unwrap().as_str(), "/\u{fc}");
        assert!(path("/a//b").is_err());
        let folder = path("/a/").unwrap_err().to_string();
        assert!(folder.contains("names a folder"), "{folder}");
        assert!(path("../a").is_err());
    }

    #[test]
    fn a_folder_takes_the_name() {
        assert_eq!(inside("/", "a").unwrap().as_str(), "/a");
        assert_eq!(inside("/b/", "a").unwrap().as_str(), "/b/a");
        assert_eq!(inside("/b", "a").unwrap().as_str(), "/b");
    }
}
