//! Verifies that storage holds the content that the upload declared.
//!
//! The presigned URLs accept only the declared bytes; this module verifies that they arrived. For a multipart
//! object, S3 does not keep the SHA-256 of the whole content. It keeps the SHA-256 of the parts' SHA-256s,
//! and the number of parts. S3 verified the SHA-256 of each part (Amazon S3 User Guide, "Checking object
//! integrity", composite checksums).

use db::Upload;
use model::{PartLayout, Sha256};
use platform::digest;
use storage::{MultipartError, Object, Part};

use crate::complete::CONTENT_TIMEOUT;
use crate::{App, Error};

/// The size and checksum that an upload declared.
pub(crate) struct Declared {
    size: i64,
    /// Content in parts may have none. Storage does not keep it, so it is not compared there.
    sha256: Option<Sha256>,
    parts: Option<PartLayout>,
}

impl Declared {
    pub(crate) fn of(upload: &Upload) -> Self {
        Self {
            size: upload.size.get(),
            sha256: upload.sha256,
            parts: upload.parts(),
        }
    }
}

/// Compares an object with the declaration. For an object assembled from parts it returns the composite
/// SHA-256. Only this upload's parts can have been assembled under the object's key, so it is enough to check
/// the number of parts and the total size.
///
/// S3 lets the holder of a presigned PUT URL add headers, which it stores and sends with each download.
/// `Content-Encoding` is rejected: clients would decode content that was never encoded. Other headers are
/// harmless: downloads override them. `Cache-Control` must be accepted, because a browser with a disabled
/// cache adds it to each request.
pub(crate) fn verify(declared: &Declared, object: &Object) -> Result<Option<Sha256>, Error> {
    if object.size != declared.size {
        return Err(Error::SizeMismatch {
            declared: declared.size,
            stored: object.size,
        });
    }
    if object.has_content_encoding {
        return Err(Error::Encoded);
    }
    let mismatch = || Error::ChecksumMismatch {
        declared: declared.sha256,
        stored: object.sha256.clone(),
    };
    let Some(parts) = declared.parts else {
        let sha256 = declared.sha256.map(|sha256| sha256.to_string());
        return if sha256.is_some() && object.sha256 == sha256 {
            Ok(None)
        } else {
            Err(mismatch())
        };
    };
    object.composite(parts.part_count).map(Some).ok_or_else(mismatch)
}

/// Assembles the parts in storage and returns the composite SHA-256. Fails if a part is missing or the sizes
/// do not add up.
pub(crate) async fn assemble(
    app: &App,
    object_key: &str,
    declared: &Declared,
    multipart_id: Option<&str>,
) -> Result<Option<Sha256>, Error> {
    let Some(parts) = declared.parts else {
        let detail = "The content has not arrived in storage. Put it, then complete.";
        return Err(Error::Incomplete(detail.to_owned()));
    };
    let stored = match multipart_id {
        Some(multipart_id) => app.storage.list_parts(object_key, multipart_id).await?,
        None => Some(Vec::new()),
    };
    let planned = match (&stored, multipart_id) {
        (Some(stored), Some(multipart_id)) => plan_completion(declared, parts, stored)
            .map(|(planned, composite)| (planned, composite, multipart_id)),
        _ => Err(missing(1, parts)),
    };
    let (planned, composite, multipart_id) = match planned {
        // Another call may have assembled the parts after the `head` of the caller. S3 then has no such
        // multipart upload; other implementations may list some of its parts, or none.
        Err(incomplete @ Error::Incomplete(_)) => {
            return match app.storage.head(object_key).await? {
                Some(object) => verify(declared, &object),
                None => Err(incomplete),
            };
        }
        planned => planned?,
    };

    let completing =
        app.storage
            .complete_multipart(object_key, multipart_id, planned, composite, CONTENT_TIMEOUT);
    match completing.await {
        Ok(()) => Ok(Some(composite)),
        // Another call assembled the parts first, or a part was replaced in the meantime. Verify the object
        // that exists.
        Err(refused @ MultipartError::Refused(_)) => match app.storage.head(object_key).await? {
            Some(object) => verify(declared, &object),
            None => Err(Error::Storage(refused.into())),
        },
        Err(MultipartError::Unavailable(error)) => Err(error.into()),
    }
}

/// Checks that all parts are present and that their sizes add up. Returns the parts to assemble, and the
/// composite SHA-256 of the object that they form.
fn plan_completion<'a>(
    declared: &Declared,
    parts: PartLayout,
    stored: &'a [Part],
) -> Result<(&'a [Part], Sha256), Error> {
    let (mut digests, mut size) = (Vec::new(), 0);
    for (number, part) in (1..=parts.part_count.get()).zip(stored) {
        if part.number.get() != number {
            return Err(missing(number, parts));
        }
        digests.extend_from_slice(part.sha256.as_bytes());
        size += part.size.get();
    }
    let count = usize::try_from(parts.part_count.get()).unwrap_or(usize::MAX);
    let planned = stored.get(..count).ok_or_else(|| {
        let present = i64::try_from(stored.len()).unwrap_or(i64::MAX);
        missing(present.saturating_add(1), parts)
    })?;
    if size != declared.size {
        return Err(Error::SizeMismatch {
            declared: declared.size,
            stored: size,
        });
    }
    Ok((planned, Sha256::from(digest::sha256(&digests))))
}

fn missing(number: i64, parts: PartLayout) -> Error {
    let last = parts.part_count;
    Error::Incomplete(format!(
        "Storage has no part {number} of {last}. GET the upload for the parts that are there, send the others, then complete."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1024 * 1024;

    fn declared(size: i64, in_parts: bool) -> Declared {
        Declared {
            size,
            sha256: Some([1; 32].into()),
            parts: in_parts.then(|| PartLayout::of(size.try_into().unwrap()).unwrap()),
        }
    }

    fn object(size: i64, sha256: Option<String>) -> Object {
        Object {
            size,
            sha256,
            has_content_encoding: false,
        }
    }

    #[test]
    fn only_an_object_of_the_declared_size_and_sha256_passes() {
        let one = declared(5, false);
        let checksum = |byte: u8| Some(Sha256::from([byte; 32]).to_string());
        assert!(matches!(verify(&one, &object(5, checksum(1))), Ok(None)));
        assert!(matches!(
            verify(&one, &object(6, checksum(1))),
            Err(Error::SizeMismatch { .. })
        ));
        for wrong in [checksum(2), None, checksum(1).map(|text| format!("{text}-1"))] {
            assert!(matches!(
                verify(&one, &object(5, wrong)),
                Err(Error::ChecksumMismatch { .. })
            ));
        }
    }

    #[test]
    fn an_object_of_another_number_of_parts_does_not_pass() {
        let three = declared(20 * MIB, true);
        let checksum = |count: &str| Some(format!("{}{count}", Sha256::from([9; 32])));
        let composite = verify(&three, &object(20 * MIB, checksum("-3"))).unwrap();
        assert_eq!(composite, Some([9; 32].into()));
        for wrong in ["-2", "-13", "", "-3-3", "=-3"] {
            assert!(matches!(
                verify(&three, &object(20 * MIB, checksum(wrong))),
                Err(Error::ChecksumMismatch { .. })
            ));
        }
    }

    #[test]
    fn an_object_with_a_content_encoding_does_not_pass() {
        let one = declared(5, false);
        let mut content = object(5, Some(Sha256::from([1; 32]).to_string()));
        assert!(verify(&one, &content).is_ok());
        content.has_content_encoding = true;
        assert!(matches!(verify(&one, &content), Err(Error::Encoded)));
    }

    #[test]
    fn parts_must_be_all_there_and_add_up() {
        let part = |number: i64, size: i64| Part {
            number: number.try_into().unwrap(),
            size: size.try_into().unwrap(),
            sha256: [3; 32].into(),
            e_tag: None,
        };
        let three = declared(20 * MIB, true);
        let parts = three.parts.unwrap();
        let (first, second, last) = (part(1, 8 * MIB), part(2, 8 * MIB), part(3, 4 * MIB));
        let all = [first.clone(), second.clone(), last.clone(), part(4, 1)];
        let (planned, composite) = plan_completion(&three, parts, &all[..3]).unwrap();
        assert_eq!(planned, &all[..3]);
        // A surplus part is not assembled.
        assert_eq!(
            plan_completion(&three, parts, &all).unwrap(),
            (planned, composite)
        );
        // The input is three SHA-256s of 32 bytes, each byte 3.
        let digest = Sha256::from(digest::sha256(&[3; 96]));
        assert_eq!(composite, digest);
        for (stored, absent) in [
            (vec![], 1),
            (vec![first.clone(), second.clone()], 3),
            (vec![first.clone(), last.clone()], 2),
            (vec![second.clone(), last.clone()], 1),
        ] {
            let Err(Error::Incomplete(detail)) = plan_completion(&three, parts, &stored) else {
                panic!("{stored:?}")
            };
            assert!(detail.contains(&format!("no part {absent} of 3")), "{detail}");
        }
        let short = [first, second, part(3, 4 * MIB - 1)];
        assert!(matches!(
            plan_completion(&three, parts, &short),
            Err(Error::SizeMismatch { .. })
        ));
    }
}
