//! The storage tests with `SeaweedFS`, a second S3 implementation that verifies signatures and checksums. If
//! it and the emulator differ, AWS's documentation decides.

#[expect(
    clippy::duplicate_mod,
    reason = "the same tests run against each implementation"
)]
#[path = "late_sha256.rs"]
mod late_sha256;
#[expect(
    clippy::duplicate_mod,
    reason = "the same tests run against each implementation"
)]
#[path = "multipart.rs"]
mod multipart;
#[expect(
    clippy::duplicate_mod,
    reason = "the same tests run against each implementation"
)]
#[path = "storage.rs"]
mod storage;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumMode, ChecksumType, CompletedMultipartUpload, CompletedPart,
};
use model::Sha256;
use platform::digest;
use tests::{TestContext, TestStorage, raw_http};

/// New functions, database and queues. Content is stored in the second implementation.
async fn apps() -> TestContext {
    TestContext::on(TestStorage::second().await).await
}

const CONTENT: &[u8] = b"hello, world";

const HOUR: Duration = Duration::from_hours(1);

/// Assembles an upload of one part. An error is the status and S3's error code.
async fn assemble(storage: &TestStorage, composite: Sha256, size: i64) -> Result<(), (u16, String)> {
    let key = format!("objects/{}", platform::ids::new_id());
    let (s3, bucket) = (&storage.s3, &storage.bucket);
    let begun = s3.create_multipart_upload().bucket(bucket).key(&key);
    let begun = begun.checksum_algorithm(ChecksumAlgorithm::Sha256);
    let begun = begun.checksum_type(ChecksumType::Composite).send().await.unwrap();
    let id = begun.upload_id().unwrap();
    let sha256 = client::sha256(CONTENT).to_string();
    let part = s3.upload_part().bucket(bucket).key(&key).upload_id(id);
    let part = part.part_number(1).checksum_sha256(&sha256);
    let part = part.body(ByteStream::from_static(CONTENT)).send().await.unwrap();
    let part = CompletedPart::builder()
        .part_number(1)
        .set_e_tag(part.e_tag)
        .checksum_sha256(&sha256)
        .build();

    let assembling = s3.complete_multipart_upload().bucket(bucket).key(&key);
    let assembled = assembling
        .upload_id(id)
        .multipart_upload(CompletedMultipartUpload::builder().parts(part).build())
        .checksum_sha256(format!("{composite}-1"))
        .mpu_object_size(size)
        .if_none_match("*")
        .send()
        .await;
    let Err(refusal) = assembled else {
        let head = s3.head_object().bucket(bucket).key(&key);
        let head = head.checksum_mode(ChecksumMode::Enabled).send().await.unwrap();
        assert_eq!(head.checksum_sha256(), Some(format!("{composite}-1").as_str()));
        return Ok(());
    };
    let code = refusal.code().unwrap_or_default().to_owned();
    Err((refusal.raw_response().unwrap().status().as_u16(), code))
}

fn composite() -> Sha256 {
    digest::sha256(client::sha256(CONTENT).as_bytes()).into()
}

fn size() -> i64 {
    CONTENT.len().try_into().unwrap()
}

#[tokio::test]
async fn assembling_checks_the_composite_checksum() {
    for storage in [TestStorage::of_the_stack(), TestStorage::second().await] {
        assert_eq!(assemble(&storage, composite(), size()).await, Ok(()));
        // Amazon S3 API Reference, "Error responses", `BadDigest`: the checksum does not match the content.
        let refusal = assemble(&storage, [7; 32].into(), size()).await;
        assert_eq!(refusal, Err((400, "BadDigest".to_owned())));
    }
}

/// Amazon S3 API Reference, `CompleteMultipartUpload`, "x-amz-mp-object-size": a wrong size is 400
/// `InvalidRequest`. `SeaweedFS` 4.48 ignores the header. No guarantee depends on it here, because
/// `complete-upload` adds up the parts' sizes before it assembles them.
#[tokio::test]
async fn assembling_checks_the_size() {
    let emulator = TestStorage::of_the_stack();
    let refusal = assemble(&emulator, composite(), size() + 1).await;
    assert_eq!(refusal, Err((400, "InvalidRequest".to_owned())));
    let second = TestStorage::second().await;
    assert_eq!(assemble(&second, composite(), size() + 1).await, Ok(()));
}

/// Amazon S3 User Guide, "Download and upload objects with presigned URLs".
#[tokio::test]
async fn a_url_is_good_for_its_time_its_request_and_its_signer() {
    let apps = apps().await;
    let created = apps.put("alice", "/a", CONTENT).await;
    let key = created.upload_id.object_key();
    let now = SystemTime::from(platform::Clock::system().now());
    let signed = async |s3: &Client, key: &str, since: Duration| {
        let during = PresigningConfig::builder()
            .start_time(now - since)
            .expires_in(HOUR);
        let getting = s3.get_object().bucket(&apps.storage.bucket).key(key);
        let getting = getting.presigned(during.build().unwrap()).await.unwrap();
        getting.uri().to_owned()
    };
    let status = async |url: String| raw_http().get(url).send().await.unwrap().status().as_u16();

    let own = &apps.storage.s3;
    let url = signed(own, &key, Duration::ZERO).await;
    assert_eq!(status(url.clone()).await, 200);
    assert_eq!(status(signed(own, &key, 2 * HOUR).await).await, 403);
    assert_eq!(status(url.replace(&key, "objects/other")).await, 403);
    assert_eq!(
        status(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200")).await,
        403
    );
    let stranger = Credentials::new(
        runner::environment::ACCESS_KEY,
        "another secret",
        None,
        None,
        "test",
    );
    let stranger = own.config().to_builder().credentials_provider(stranger).build();
    assert_eq!(
        status(signed(&Client::from_conf(stranger), &key, Duration::ZERO).await).await,
        403
    );
}
