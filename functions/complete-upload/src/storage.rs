//! What storage has of an upload, and whether that is what was declared.
//!
//! The presigned URLs let only the declared bytes in; here is the proof that they are there. S3 keeps no SHA-256 of a whole
//! multipart object. What it keeps is the SHA-256 of the parts' SHA-256s, which it has each checked, and their number (Amazon
//! S3 User Guide, "Checking object integrity", composite checksums).

use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::head_object::{HeadObjectError, HeadObjectOutput};
use aws_sdk_s3::types::{ChecksumMode, CompletedMultipartUpload, CompletedPart, Part};
use db::Upload;
use model::{PartNumber, Parts, Sha256};
use platform::digest;
use tokio::time::timeout;

use crate::{App, Error};

/// How long listing and assembling the parts may take together: what the function's own timeout leaves after all other
/// waits. S3 needs minutes for the largest objects; the client calls again, and finds the object (Amazon S3 API Reference,
/// `CompleteMultipartUpload`).
const ASSEMBLY_TIMEOUT: Duration = Duration::from_secs(17);

/// What an upload declared.
pub(crate) struct Expected {
    size: i64,
    sha256: Sha256,
    cut: Option<Parts>,
}

impl Expected {
    pub(crate) fn of(upload: &Upload) -> Self {
        let cut = |part_size| Parts::with_part_size(upload.size, part_size);
        Self {
            size: upload.size.get(),
            sha256: upload.sha256,
            cut: upload.part_size.and_then(cut),
        }
    }
}

/// Asks for the object, if it is there.
pub(crate) async fn head(app: &App, object_key: &str) -> Result<Option<HeadObjectOutput>, Error> {
    let request = app
        .s3
        .head_object()
        .bucket(&app.bucket)
        .key(object_key)
        .checksum_mode(ChecksumMode::Enabled);
    match request.send().await {
        Ok(object) => Ok(Some(object)),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(HeadObjectError::is_not_found) =>
        {
            Ok(None)
        }
        Err(error) => Err(Error::Storage(error.into())),
    }
}

/// Compares the object with what was declared. An object of parts can only have come from this upload's
/// parts, since nothing else may be put under its key; so their number and the total size are what is left to
/// check. Answers with the composite SHA-256 of such an object.
///
/// S3 lets the holder of a PUT's URL add headers that it keeps and sends with each download.
/// `Content-Encoding` would make a client decode what was never encoded, or fill its memory with it. The
/// others are harmless: downloads override them, and a browser whose cache is off adds `Cache-Control` to
/// each request by itself.
pub(crate) fn verify(expected: &Expected, object: &HeadObjectOutput) -> Result<Option<Sha256>, Error> {
    let (declared, stored) = (expected.size, object.content_length().unwrap_or_default());
    if stored != declared {
        return Err(Error::SizeMismatch { declared, stored });
    }
    if object.content_encoding().is_some() {
        return Err(Error::Encoded);
    }
    let checksum = object.checksum_sha256();
    let mismatch = || Error::ChecksumMismatch {
        declared: expected.sha256,
        stored: checksum.map(str::to_owned),
    };
    let Some(cut) = expected.cut else {
        return if checksum == Some(&expected.sha256.to_string()) {
            Ok(None)
        } else {
            Err(mismatch())
        };
    };
    let composite = checksum
        .and_then(|checksum| checksum.strip_suffix(&format!("-{}", cut.part_count)))
        .and_then(|digest| digest.parse().ok());
    composite.map(Some).ok_or_else(mismatch)
}

/// Makes the object of the parts that storage has, if they are all there and of the right sizes.
pub(crate) async fn assemble(
    app: &App,
    object_key: &str,
    expected: &Expected,
    multipart_id: Option<&str>,
) -> Result<Option<Sha256>, Error> {
    let assembling = try_assemble(app, object_key, expected, multipart_id);
    timeout(ASSEMBLY_TIMEOUT, assembling)
        .await
        .unwrap_or_else(|elapsed| Err(Error::Storage(elapsed.into())))
}

async fn try_assemble(
    app: &App,
    object_key: &str,
    expected: &Expected,
    multipart_id: Option<&str>,
) -> Result<Option<Sha256>, Error> {
    let Some(cut) = expected.cut else {
        let detail = "The content has not arrived in storage. Put it, then complete.";
        return Err(Error::Incomplete(detail.to_owned()));
    };
    let parts = match multipart_id {
        Some(multipart_id) => list_parts(app, object_key, multipart_id).await?,
        None => Some(Vec::new()),
    };
    let checked = match (&parts, multipart_id) {
        (Some(parts), Some(multipart_id)) => {
            check(expected, cut, parts).map(|(completed, composite)| (completed, composite, multipart_id))
        }
        _ => Err(missing(1, cut)),
    };
    let (completed, composite, multipart_id) = match checked {
        // Another call may have assembled the parts since the object was looked for. S3 then has no such
        // upload; other implementations may list some of its parts, or none.
        Err(incomplete @ Error::Incomplete(_)) => {
            return match head(app, object_key).await? {
                Some(object) => verify(expected, &object),
                None => Err(incomplete),
            };
        }
        checked => checked?,
    };

    let assembling = app
        .s3
        .complete_multipart_upload()
        .bucket(&app.bucket)
        .key(object_key)
        .upload_id(multipart_id)
        .multipart_upload(completed)
        // S3 refuses to make anything else.
        .checksum_sha256(format!("{composite}-{}", cut.part_count))
        .mpu_object_size(expected.size)
        .if_none_match("*")
        .customize()
        .config_override(aws_sdk_s3::config::Builder::default().timeout_config(patience()));
    match assembling.send().await {
        Ok(_) => Ok(Some(composite)),
        // The other call of two, or a part that came again meanwhile: what counts is what there is.
        Err(SdkError::ServiceError(refusal)) if refusal.raw().status().as_u16() < 500 => {
            match head(app, object_key).await? {
                Some(object) => verify(expected, &object),
                None => Err(Error::Storage(Box::new(SdkError::ServiceError(refusal)))),
            }
        }
        Err(error) => Err(Error::Storage(error.into())),
    }
}

fn patience() -> TimeoutConfig {
    TimeoutConfig::builder()
        .operation_attempt_timeout(ASSEMBLY_TIMEOUT)
        .operation_timeout(ASSEMBLY_TIMEOUT)
        .read_timeout(ASSEMBLY_TIMEOUT)
        .build()
}

/// The parts in order, in at most ten calls; nothing if they were assembled or freed.
async fn list_parts(app: &App, object_key: &str, multipart_id: &str) -> Result<Option<Vec<Part>>, Error> {
    let mut pages = app
        .s3
        .list_parts()
        .bucket(&app.bucket)
        .key(object_key)
        .upload_id(multipart_id)
        .into_paginator()
        .send();
    let mut parts = Vec::new();
    while let Some(page) = pages.next().await {
        match page {
            Ok(page) => parts.extend(page.parts.unwrap_or_default()),
            // It has no modelled errors, so the code is all that there is.
            Err(error) if error.code() == Some("NoSuchUpload") => return Ok(None),
            Err(error) => return Err(Error::Storage(error.into())),
        }
    }
    Ok(Some(parts))
}

/// What to assemble, and the composite checksum that it will have.
fn check(
    expected: &Expected,
    cut: Parts,
    parts: &[Part],
) -> Result<(CompletedMultipartUpload, Sha256), Error> {
    let mut completed = CompletedMultipartUpload::builder();
    let (mut digests, mut size) = (Vec::new(), 0);
    for (number, part) in (1..=cut.part_count.get()).zip(parts) {
        let sha256 = part
            .checksum_sha256()
            .and_then(|text| text.parse::<Sha256>().ok());
        let (Some(sha256), true) = (sha256, part.part_number().map(i64::from) == Some(number)) else {
            return Err(missing(number, cut));
        };
        digests.extend_from_slice(sha256.as_bytes());
        size += part.size().unwrap_or_default();
        completed = completed.parts(
            CompletedPart::builder()
                .set_part_number(part.part_number())
                .set_e_tag(part.e_tag().map(str::to_owned))
                .checksum_sha256(sha256.to_string())
                .build(),
        );
    }
    let count = i64::try_from(parts.len()).unwrap_or(i64::MAX);
    if count < cut.part_count.get() {
        return Err(missing(count + 1, cut));
    }
    if size != expected.size {
        let declared = expected.size;
        return Err(Error::SizeMismatch {
            declared,
            stored: size,
        });
    }
    let composite = Sha256::from(digest::sha256(&digests));
    Ok((completed.build(), composite))
}

fn missing(number: i64, cut: Parts) -> Error {
    let last: PartNumber = cut.part_count;
    Error::Incomplete(format!(
        "Storage has no part {number} of {last}. GET the upload for the parts that are there, send the others, then complete."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1024 * 1024;

    fn expected(size: i64, in_parts: bool) -> Expected {
        Expected {
            size,
            sha256: [1; 32].into(),
            cut: in_parts.then(|| Parts::of(size.try_into().unwrap()).unwrap()),
        }
    }

    fn object(size: i64, checksum: Option<String>) -> HeadObjectOutput {
        HeadObjectOutput::builder()
            .content_length(size)
            .set_checksum_sha256(checksum)
            .build()
    }

    #[test]
    fn only_an_object_of_the_declared_size_and_sha256_passes() {
        let one = expected(5, false);
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
        let three = expected(20 * MIB, true);
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
    fn an_object_with_headers_that_nobody_declared_does_not_pass() {
        let one = expected(5, false);
        let object = || {
            HeadObjectOutput::builder()
                .content_length(5)
                .content_type("text/plain")
                .checksum_sha256(Sha256::from([1; 32]).to_string())
        };
        assert!(verify(&one, &object().build()).is_ok());
        let encoded = object().content_encoding("gzip").build();
        assert!(matches!(verify(&one, &encoded), Err(Error::Encoded)));
        // A browser whose cache is off sends it.
        assert!(verify(&one, &object().cache_control("no-cache").build()).is_ok());
    }

    #[test]
    fn parts_must_be_all_there_and_add_up() {
        let part = |number: i32, size: i64| {
            Part::builder()
                .part_number(number)
                .size(size)
                .checksum_sha256(Sha256::from([3; 32]).to_string())
                .build()
        };
        let three = expected(20 * MIB, true);
        let cut = three.cut.unwrap();
        let (first, second, last) = (part(1, 8 * MIB), part(2, 8 * MIB), part(3, 4 * MIB));
        let (_, composite) = check(&three, cut, &[first.clone(), second.clone(), last.clone()]).unwrap();
        // SHA-256 of 96 bytes of value 3.
        let digest = Sha256::from(digest::sha256(&[3; 96]));
        assert_eq!(composite, digest);
        for (parts, absent) in [
            (vec![], 1),
            (vec![first.clone(), second.clone()], 3),
            (vec![first.clone(), last.clone()], 2),
            (vec![second.clone(), last.clone()], 1),
        ] {
            let Err(Error::Incomplete(detail)) = check(&three, cut, &parts) else {
                panic!("{parts:?}")
            };
            assert!(detail.contains(&format!("no part {absent} of 3")), "{detail}");
        }
        let short = [first, second, part(3, 4 * MIB - 1)];
        assert!(matches!(
            check(&three, cut, &short),
            Err(Error::SizeMismatch { .. })
        ));
    }
}
