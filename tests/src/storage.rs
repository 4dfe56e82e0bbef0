//! Storage for content: the emulator's S3, or `SeaweedFS`, a second implementation that verifies signatures.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, Response};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use crate::{aws, project_file, raw_http, stack};

/// Bucket in the second implementation.
const BUCKET: &str = "content";

/// Largest body that the proxy forwards to the second implementation, in bytes. A part must fit in it.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Deadline for the start of `SeaweedFS`. It took 4 s on two busy cores.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Timeout of a request to the second implementation.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A bucket and a client for it.
#[derive(Clone)]
pub struct TestStorage {
    /// S3 client with the endpoint and credentials for this bucket.
    pub s3: aws_sdk_s3::Client,
    /// Bucket name.
    pub bucket: String,
}

impl TestStorage {
    /// Bucket of the deployed stack, in the emulator.
    pub fn of_the_stack() -> Self {
        Self {
            s3: aws_sdk_s3::Client::new(&aws()),
            bucket: stack().outputs.bucket_name.clone(),
        }
    }

    /// Storage client of the type that functions use.
    pub fn storage(&self) -> ::storage::Storage {
        ::storage::Storage::new(self.s3.config().to_builder(), &self.bucket)
    }

    /// Bucket in `SeaweedFS`. All tests of this process share the server and the bucket.
    pub async fn second() -> Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        let server = SERVER.get_or_init(Server::start).await;
        let endpoint = listing_checksums(format!("http://127.0.0.1:{}", server.port)).await;
        let sdk = ::stack::emulator::aws_config(&endpoint).unwrap();
        // The functions' S3 timeout is about one second. That is too short for eight large requests at once
        // on a busy machine.
        let patience = TimeoutConfig::builder()
            .operation_attempt_timeout(REQUEST_TIMEOUT)
            .operation_timeout(REQUEST_TIMEOUT)
            .read_timeout(REQUEST_TIMEOUT)
            .build();
        let sdk = sdk.into_builder().timeout_config(patience).build();
        Self {
            s3: aws_sdk_s3::Client::new(&sdk),
            bucket: BUCKET.to_owned(),
        }
    }
}

/// `SeaweedFS` process. A shell kills it when this process ends for any reason, because that closes the
/// shell's standard input.
struct Server {
    port: u16,
    _shell: Child,
}

impl Server {
    async fn start() -> Self {
        let weed = project_file(".local/tools/seaweedfs/bin/weed");
        assert!(
            weed.exists(),
            "{} is not there: run `cargo xtask test`, which installs it",
            weed.display()
        );
        let folder = project_file(".local/run").join(format!("seaweedfs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let identity = serde_json::json!({ "identities": [{
            "name": "test",
            "credentials": [{ "accessKey": runner::environment::ACCESS_KEY, "secretKey": runner::environment::ACCESS_KEY }],
            "actions": ["Admin", "Read", "Write", "List"],
        }]});
        std::fs::write(folder.join("s3.json"), identity.to_string()).unwrap();
        let log = folder.join("log");
        let output = std::fs::File::create(&log).unwrap();

        let ports = free_ports(8).await;
        // `SeaweedFS` creates these sockets. No option moves all of them elsewhere.
        let sockets: Vec<String> = ports
            .iter()
            .map(|port| format!("/tmp/seaweedfs-*-{port}.sock"))
            .collect();
        let sockets = sockets.join(" ");
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(format!("\"$@\" & cat; kill -KILL $!; rm -rf \"$0\" {sockets}"))
            .arg(&folder)
            .arg(&weed)
            .args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
            .arg(format!("-dir={}", folder.display()))
            .arg(format!("-s3.config={}", folder.join("s3.json").display()))
            // Telemetry is on by default and reports usage to the developers of `SeaweedFS`.
            .arg("-master.telemetry=false")
            .args(["-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"])
            .args(["-volume.max=20", "-master.volumeSizeLimitMB=64"]);
        let names = ["s3", "master", "volume", "filer"];
        for (name, ports) in names.into_iter().zip(ports.chunks(2)) {
            command.arg(format!("-{name}.port={}", ports[0]));
            command.arg(format!("-{name}.port.grpc={}", ports[1]));
        }
        command
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        let shell = command.spawn().unwrap();

        let server = Self {
            port: ports[0],
            _shell: shell,
        };
        let started = timeout(START_TIMEOUT, server.make_bucket()).await;
        assert!(started.is_ok(), "SeaweedFS does not start: {}", end_of(&log));
        server
    }

    /// Creates the bucket and writes a first object, retrying both until they succeed. `SeaweedFS` creates
    /// its volumes for the first object, which takes longer than the functions' timeout.
    async fn make_bucket(&self) {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let s3 = aws_sdk_s3::Client::new(&::stack::emulator::aws_config(&endpoint).unwrap());
        while s3.create_bucket().bucket(BUCKET).send().await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
        let first = || {
            s3.put_object()
                .bucket(BUCKET)
                .key("first")
                .body(ByteStream::from_static(b"x"))
                .send()
        };
        while first().await.is_err() {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Free TCP ports below the ephemeral range, which starts at 32768 on Linux. The system therefore assigns
/// none of them to another socket before the server binds them.
async fn free_ports(count: usize) -> Vec<u16> {
    let first = 20_000 + u16::try_from(std::process::id() % 1_200).unwrap() * 10;
    let mut ports = Vec::new();
    for port in first..32_768 {
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return ports;
        }
    }
    panic!("there are fewer than {count} free ports from {first} to 32767");
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A part of an upload: the upload's id and the part number.
type PartId = (String, String);

/// SHA-256 (base64) of each accepted part.
type Checksums = Arc<Mutex<HashMap<PartId, String>>>;

/// Starts a proxy that adds the SHA-256 of each part to `ListParts`, and returns its URL. S3 lists the
/// checksums if the upload was created with that algorithm (Amazon S3 API Reference, `ListParts`,
/// "`ChecksumSHA256`"), and `complete-upload` depends on it. `SeaweedFS` 4.48 verifies and stores the
/// checksums, but does not list them. The proxy changes nothing else, so the host header and the signature
/// stay valid.
async fn listing_checksums(target: String) -> String {
    let checksums = Checksums::default();
    let http = raw_http();
    let app = Router::new()
        .fallback(forward)
        .with_state((target, http, checksums));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    endpoint
}

async fn forward(
    State((target, http, checksums)): State<(String, reqwest::Client, Checksums)>,
    request: Request,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().unwrap().as_str();
    let parameters: HashMap<String, String> =
        serde_html_form::from_str(parts.uri.query().unwrap_or_default()).unwrap();
    let upload = parameters.get("uploadId").cloned().unwrap_or_default();
    let part = parameters.get("partNumber").cloned();
    let sha256 = parts.headers.get("x-amz-checksum-sha256");
    let sha256 = sha256.map(|sha256| sha256.to_str().unwrap().to_owned());

    let body = to_bytes(body, MAX_BODY_BYTES).await.unwrap();
    let sending = http.request(parts.method.clone(), format!("{target}{path}"));
    let answer = sending.headers(parts.headers).body(body).send().await.unwrap();
    let (status, mut headers) = (answer.status(), answer.headers().clone());
    let mut content = answer.bytes().await.unwrap();
    if let (true, Some(part), Some(sha256)) = (status.is_success(), part, sha256) {
        checksums.lock().unwrap().insert((upload.clone(), part), sha256);
    }
    let text = std::str::from_utf8(&content).unwrap_or_default();
    if parts.method == Method::GET && text.contains("<ListPartsResult") {
        let listed = with_checksums(text, &upload, &checksums.lock().unwrap());
        headers.insert("content-length", listed.len().into());
        content = listed.into();
    }
    let mut response = Response::new(Body::from(content));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn with_checksums(listing: &str, upload: &str, checksums: &HashMap<PartId, String>) -> String {
    assert!(
        !listing.contains("ChecksumSHA256"),
        "SeaweedFS lists checksums itself now: take this proxy away"
    );
    let Some((parts, last)) = listing.rsplit_once("</Part>") else {
        return listing.to_owned();
    };
    let mut listed = String::new();
    for part in parts.split("</Part>") {
        let (_, number) = part.rsplit_once("<PartNumber>").unwrap();
        let (number, _) = number.split_once('<').unwrap();
        let sha256 = &checksums[&(upload.to_owned(), number.to_owned())];
        write!(listed, "{part}<ChecksumSHA256>{sha256}</ChecksumSHA256></Part>").unwrap();
    }
    listed + last
}
