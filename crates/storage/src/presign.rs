//! Presigned requests, which clients send directly to S3.

use std::time::Duration;

use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use model::{ByteCount, ContentType, PartRequest, PresignedPut, Sha256};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{Error, Storage};

/// The properties of an object to be put. The presigned request fixes them.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    /// Size in bytes.
    pub size: ByteCount,
    /// SHA-256 of the content.
    pub sha256: Sha256,
    /// Media type; `None` if the uploader gave none.
    pub content_type: Option<&'a ContentType>,
}

/// The response headers of a download.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// Media type; `None` for `application/octet-stream`.
    pub content_type: Option<&'a ContentType>,
    /// The name under which a browser saves the file.
    pub file_name: &'a str,
}

/// The maximum length of a file name in `Content-Disposition`, in bytes: the longest name in common file
/// systems.
const MAX_NAME_BYTES: usize = 255;

/// The characters to percent-encode in `filename*`: all but `attr-char` (RFC 8187, section 3.2.1).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// A header that the SDK adds on Lambda without signing it. It is removed: S3 ignores it, and CORS rules
/// would have to allow it.
const TRACE: &str = "x-amzn-trace-id";

impl Storage {
    /// Presigns the PUT of an object. Length, SHA-256 and `If-None-Match: *` are signed headers, so S3
    /// refuses different content and a second PUT.
    ///
    /// A URL expires with the credentials that signed it, which Lambda renews every few hours (Amazon S3 User
    /// Guide, "Download and upload objects with presigned URLs").
    pub async fn presign_put(
        &self,
        key: &str,
        put: Put<'_>,
        lifetime: Duration,
    ) -> Result<PresignedPut, Error> {
        let request = self.s3.put_object().bucket(&self.bucket).key(key);
        let request = request
            .content_length(put.size.get())
            .set_content_type(
                put.content_type
                    .map(|content_type| content_type.as_str().to_owned()),
            )
            .checksum_sha256(put.sha256.to_string())
            .if_none_match("*")
            .presigned(expires_in(lifetime)?)
            .await;
        presigned(request)
    }

    /// Presigns the PUT of a part. Length and SHA-256 are signed headers, so S3 refuses different content.
    pub async fn presign_part(
        &self,
        key: &str,
        multipart_id: &str,
        part: PartRequest,
        size: ByteCount,
        lifetime: Duration,
    ) -> Result<PresignedPut, Error> {
        let number = i32::try_from(part.part_number.get()).map_err(Error::new)?;
        let request = self.s3.upload_part().bucket(&self.bucket).key(key);
        let request = request
            .upload_id(multipart_id)
            .part_number(number)
            .content_length(size.get())
            .checksum_sha256(part.sha256.to_string())
            .presigned(expires_in(lifetime)?)
            .await;
        presigned(request)
    }

    /// Presigns a GET and returns its URL. The given headers override those of the object, so that browsers
    /// always download the content and never display, decode or cache it.
    pub async fn presign_get(
        &self,
        key: &str,
        download: Download<'_>,
        lifetime: Duration,
    ) -> Result<String, Error> {
        let content_type = download.content_type.map(ContentType::as_str);
        let request = self.s3.get_object().bucket(&self.bucket).key(key);
        let request = request
            .response_content_type(content_type.unwrap_or("application/octet-stream"))
            .response_content_disposition(disposition(download.file_name))
            // Earlier releases accepted objects for which the uploader had set these headers.
            .response_content_encoding("identity")
            .response_cache_control("private, no-store")
            .presigned(expires_in(lifetime)?)
            .await
            .map_err(Error::new)?;
        Ok(request.uri().to_owned())
    }
}

fn expires_in(lifetime: Duration) -> Result<PresigningConfig, Error> {
    PresigningConfig::expires_in(lifetime).map_err(Error::new)
}

fn presigned<E>(request: Result<PresignedRequest, E>) -> Result<PresignedPut, Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let request = request.map_err(Error::new)?;
    let headers = request.headers();
    let headers = headers.filter(|(name, _)| !name.eq_ignore_ascii_case(TRACE));
    Ok(PresignedPut {
        url: request.uri().to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
    })
}

/// Formats `Content-Disposition: attachment`, so that no browser displays an upload as a page. `filename*`
/// has the exact name for clients that support RFC 6266. `filename` has an ASCII form for others.
fn disposition(name: &str) -> String {
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || " ._-()".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let encoded = utf8_percent_encode(name, ENCODED);
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_breaks_out_of_the_header() {
        for (name, expected) in [
            (
                "a b.pdf",
                r#"attachment; filename="a b.pdf"; filename*=UTF-8''a%20b.pdf"#,
            ),
            (
                "Übung.txt",
                r#"attachment; filename="_bung.txt"; filename*=UTF-8''%C3%9Cbung.txt"#,
            ),
            (
                r#"x"; filename="evil.exe"#,
                r#"attachment; filename="x__ filename__evil.exe"; filename*=UTF-8''x%22%3B%20filename%3D%22evil.exe"#,
            ),
            (
                "a'b*%",
                r#"attachment; filename="a_b__"; filename*=UTF-8''a%27b%2A%25"#,
            ),
        ] {
            assert_eq!(disposition(name), expected);
        }
        let long = disposition(&"ü".repeat(500));
        assert!(
            long.ends_with("%C3%BC") && long.matches("%C3%BC").count() == 127,
            "{long}"
        );
    }
}
