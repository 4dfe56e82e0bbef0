//! Requests to storage, signed for others to send.

use aws_sdk_s3::operation::abort_multipart_upload::AbortMultipartUploadError;
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use model::{ByteCount, ContentType, PartRequest, PresignedPut, Sha256, UploadId};
use time::{Duration, OffsetDateTime};

use crate::{App, Error};

/// How long a URL can be used. It cannot outlive the credentials that signed it, which Lambda renews every few hours (Amazon
/// S3 User Guide, "Download and upload objects with presigned URLs").
const URL_LIFETIME: Duration = Duration::hours(1);

/// Signs length, SHA-256 and `If-None-Match: *` along with the URL, so that S3 itself refuses other bytes and a second PUT.
pub(crate) async fn put(
    app: &App,
    upload_id: UploadId,
    size: ByteCount,
    sha256: Sha256,
    content_type: Option<&ContentType>,
    expires_at: OffsetDateTime,
) -> Result<PresignedPut, Error> {
    let request = app
        .s3
        .put_object()
        .bucket(&app.bucket)
        .key(upload_id.object_key())
        .content_length(size.get())
        .set_content_type(content_type.map(|content_type| content_type.as_str().to_owned()))
        .checksum_sha256(sha256.to_string())
        .if_none_match("*")
        .presigned(until(app, expires_at)?)
        .await;
    presigned(request)
}

/// Signs length and SHA-256 of a part along with the URL.
pub(crate) async fn part(
    app: &App,
    (upload_id, multipart_id): (UploadId, &str),
    part: PartRequest,
    size: ByteCount,
    expires_at: OffsetDateTime,
) -> Result<PresignedPut, Error> {
    let number = i32::try_from(part.part_number.get()).map_err(|error| Error::Presign(error.into()))?;
    let request = app
        .s3
        .upload_part()
        .bucket(&app.bucket)
        .key(upload_id.object_key())
        .upload_id(multipart_id)
        .part_number(number)
        .content_length(size.get())
        .checksum_sha256(part.sha256.to_string())
        .presigned(until(app, expires_at)?)
        .await;
    presigned(request)
}

/// Frees the parts. That there are none any more is fine.
pub(crate) async fn abort_multipart(app: &App, upload_id: UploadId, multipart_id: &str) -> Result<(), Error> {
    let aborting = app
        .s3
        .abort_multipart_upload()
        .bucket(&app.bucket)
        .key(upload_id.object_key())
        .upload_id(multipart_id)
        .send();
    match aborting.await {
        Ok(_) => Ok(()),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(AbortMultipartUploadError::is_no_such_upload) =>
        {
            Ok(())
        }
        Err(error) => Err(Error::Storage(error.into())),
    }
}

/// A URL is good for [`URL_LIFETIME`], and no longer than its upload.
fn until(app: &App, expires_at: OffsetDateTime) -> Result<PresigningConfig, Error> {
    let left = (expires_at - app.clock.now())
        .min(URL_LIFETIME)
        .max(Duration::SECOND);
    let left = std::time::Duration::from_secs(left.whole_seconds().unsigned_abs());
    PresigningConfig::expires_in(left).map_err(|error| Error::Presign(error.into()))
}

/// What the SDK adds on Lambda and does not sign. To storage it says nothing, and a page would have to be allowed to send it.
const TRACE: &str = "x-amzn-trace-id";

fn presigned<E>(request: Result<PresignedRequest, E>) -> Result<PresignedPut, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let request = request.map_err(|error| Error::Presign(error.into()))?;
    Ok(PresignedPut {
        url: request.uri().to_owned(),
        headers: request
            .headers()
            .filter(|(name, _)| !name.eq_ignore_ascii_case(TRACE))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
    })
}
