//! Multipart uploads. An object is assembled only with the composite SHA-256 and the size that the request names.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use model::Sha256;

use super::{Bucket, Object, checked, parameter, sha256};
use crate::http::{Reply, Request, Service as _, reply};

/// The multipart uploads that are neither assembled nor aborted.
#[derive(Default)]
pub(super) struct MultipartUploads {
    /// Uploads begun so far.
    begun: u64,
    /// The parts, size and SHA-256, by key and id of the upload, and number.
    open: HashMap<(String, String), Parts>,
}

type Parts = BTreeMap<u32, (i64, Sha256)>;

impl MultipartUploads {
    pub(super) fn abort(&mut self, key: &str, upload: &str) {
        self.open.remove(&of(key, upload));
    }
}

impl Bucket {
    pub(super) fn begin_parts(&self, key: &str) -> Reply {
        let mut uploads = self.uploads.lock();
        uploads.begun += 1;
        let upload = uploads.begun.to_string();
        uploads.open.insert(of(key, &upload), Parts::new());
        let result = "InitiateMultipartUploadResult";
        xml(result, &format!("<Key>{key}</Key><UploadId>{upload}</UploadId>"))
    }

    pub(super) fn put_part(&self, key: &str, upload: &str, query: &str, request: &Request) -> Reply {
        let Some((size, sha256)) = checked(request) else {
            return self.error(400, "BadDigest");
        };
        let number = parameter(query, "partNumber").and_then(|number| number.parse().ok());
        let mut uploads = self.uploads.lock();
        let Some((parts, number)) = uploads.open.get_mut(&of(key, upload)).zip(number) else {
            return self.error(404, "NoSuchUpload");
        };
        parts.insert(number, (size, sha256));
        let headers = format!("etag: \"{number}\"\r\nx-amz-checksum-sha256: {sha256}\r\n");
        reply(200, &headers, b"")
    }

    /// Lists all parts on one page.
    pub(super) fn list_parts(&self, key: &str, upload: &str) -> Reply {
        let uploads = self.uploads.lock();
        let Some(parts) = uploads.open.get(&of(key, upload)) else {
            return self.error(404, "NoSuchUpload");
        };
        let mut listed = "<IsTruncated>false</IsTruncated>".to_owned();
        for (number, (size, sha256)) in parts {
            let _ = write!(
                listed,
                "<Part><PartNumber>{number}</PartNumber><ETag>\"{number}\"</ETag><Size>{size}</Size>\
                 <ChecksumSHA256>{sha256}</ChecksumSHA256></Part>"
            );
        }
        xml("ListPartsResult", &listed)
    }

    pub(super) fn assemble(&self, key: &str, upload: &str, request: &Request) -> Reply {
        let mut uploads = self.uploads.lock();
        let Some(parts) = uploads.open.get(&of(key, upload)) else {
            return self.error(404, "NoSuchUpload");
        };
        let body = request.body();
        let numbers = String::from_utf8_lossy(&body);
        let numbers = numbers.split("<PartNumber>").skip(1).map(|rest| {
            let number = rest.split('<').next()?;
            parts.get(&number.parse().ok()?)
        });
        let Some(named) = numbers.collect::<Option<Vec<_>>>() else {
            return self.error(400, "InvalidPart");
        };
        let digests: Vec<u8> = named.iter().flat_map(|(_, sha256)| *sha256.as_bytes()).collect();
        let object = Object {
            size: named.iter().map(|(size, _)| size).sum(),
            sha256: sha256(&digests),
            parts: named.len(),
        };
        let declared = |name: &str, value: String| request.header(name).is_none_or(|given| given == value);
        if !declared("x-amz-checksum-sha256", object.checksum())
            || !declared("x-amz-mp-object-size", object.size.to_string())
        {
            return self.error(400, "InvalidRequest");
        }
        let mut objects = self.objects.lock();
        if request.header("if-none-match").as_deref() == Some("*") && objects.contains_key(key) {
            return self.error(412, "PreconditionFailed");
        }
        objects.insert(key.to_owned(), object);
        uploads.abort(key, upload);
        xml("CompleteMultipartUploadResult", &format!("<Key>{key}</Key>"))
    }
}

fn of(key: &str, upload: &str) -> (String, String) {
    (key.to_owned(), upload.to_owned())
}

fn xml(result: &str, content: &str) -> Reply {
    let body = format!(r#"<?xml version="1.0" encoding="UTF-8"?><{result}>{content}</{result}>"#);
    reply(200, "content-type: application/xml\r\n", body.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::S3;
    use super::sha256;
    use crate::http::Fault;
    use crate::http::tests::send;

    #[tokio::test]
    async fn parts_are_assembled_once_with_the_named_checksum_and_size() {
        let s3 = S3::start(None, "bucket", || Fault::None).await.unwrap();
        let begun = send(&s3.server, "POST /bucket/key?uploads HTTP/1.1", "").await;
        assert!(begun.contains("<UploadId>1</UploadId>"), "{begun}");
        let put = |number: u32, content: &str| {
            let sha256 = sha256(content.as_bytes());
            format!(
                "PUT /bucket/key?partNumber={number}&uploadId=1 HTTP/1.1\r\nx-amz-checksum-sha256: {sha256}"
            )
        };
        assert!(
            send(&s3.server, &put(1, "one"), "other")
                .await
                .contains("BadDigest")
        );
        for (number, content) in [(2, "two"), (1, "one")] {
            let answer = send(&s3.server, &put(number, content), content).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        let listed = send(&s3.server, "GET /bucket/key?uploadId=1 HTTP/1.1", "").await;
        let (one, two) = (sha256(b"one"), sha256(b"two"));
        let at = |sha256: &model::Sha256| listed.find(&sha256.to_string());
        assert!(at(&one).is_some() && at(&one) < at(&two), "{listed}");

        let composite = sha256(&[*one.as_bytes(), *two.as_bytes()].concat());
        let assemble = |size: u32| {
            format!(
                "POST /bucket/key?uploadId=1 HTTP/1.1\r\nif-none-match: *\r\nx-amz-mp-object-size: {size}\r\n\
                 x-amz-checksum-sha256: {composite}-2"
            )
        };
        let parts = "<Part><PartNumber>1</PartNumber></Part><Part><PartNumber>2</PartNumber></Part>";
        for (size, body, expected) in [
            (7, parts, "InvalidRequest"),
            (6, "<Part><PartNumber>3</PartNumber></Part>", "InvalidPart"),
            (6, parts, "HTTP/1.1 200"),
            (6, parts, "NoSuchUpload"),
        ] {
            let answer = send(&s3.server, &assemble(size), body).await;
            assert!(answer.contains(expected), "{answer}");
        }
        let object = send(&s3.server, "HEAD /bucket/key HTTP/1.1", "").await;
        assert!(
            object.contains(&format!("{composite}-2")) && object.contains("COMPOSITE"),
            "{object}"
        );
    }
}
