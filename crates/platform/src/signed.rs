//! Signed requests to AWS services that are called too rarely to justify an SDK client.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningError, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error as ThisError;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};

use crate::Clock;
use crate::aws::Account;
use crate::client::{Error as ClientError, HttpClient, Origin};
use crate::config::Vars;

/// The maximum number of attempts of a request, the first included.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt. It is doubled before the third.
const PAUSE: Duration = Duration::from_millis(500);

/// The timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// The content type of requests in the AWS query protocol.
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// The reason why a request has no successful response.
#[derive(Debug, ThisError)]
pub enum Error {
    /// The environment has no credentials or no region. Lambda always sets both.
    #[error("the environment has no AWS credentials and region")]
    NoAccount,
    /// The endpoint is not a valid URL.
    #[error("the service's endpoint is no URL")]
    Endpoint(#[source] BoxError),
    /// The request could not be signed.
    #[error("the request could not be signed")]
    Signing(#[from] SigningError),
    /// A parameter of the signature is missing.
    #[error("the signature's parameters are incomplete")]
    Parameters(#[from] v4::signing_params::BuildError),
    /// The server could not be reached, or the connection broke before the response. Holds the host.
    #[error("{0} cannot be reached")]
    Unreachable(String, #[source] ClientError),
    /// The server did not respond within the attempt's timeout. Holds the host.
    #[error("{0} did not answer within {ATTEMPT_TIMEOUT:?}")]
    Timeout(String, #[source] Elapsed),
    /// The server responded with a status other than 2xx.
    #[error("{host} answered {status}: {answer}")]
    Refused {
        /// The server's host.
        host: String,
        /// The HTTP status.
        status: StatusCode,
        /// The body of the response as text.
        answer: String,
    },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(..) | Self::Timeout(..) => true,
            Self::Refused { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

/// A client for AWS services in the function's account and region.
#[derive(Clone, Debug)]
pub struct Services {
    http: HttpClient,
    account: Option<Account>,
    /// An endpoint that replaces those of all services.
    endpoint: Option<String>,
    clock: Clock,
}

/// A request to a service.
struct Asked<'a> {
    service: &'a str,
    method: Method,
    /// The path with its query.
    path: &'a str,
    body: String,
}

impl Services {
    /// Makes a client with the function's credentials and region, and with the endpoint `AWS_ENDPOINT_URL` if
    /// it is set.
    pub fn from_vars(vars: &Vars<'_>, http: HttpClient, account: Option<Account>) -> Self {
        let endpoint = vars
            .of_lambda::<String>("AWS_ENDPOINT_URL")
            .filter(|url| !url.is_empty());
        Self::new(http, account, endpoint)
    }

    /// Makes a client. `endpoint` replaces the endpoints of all services; `None` uses AWS's own.
    pub fn new(http: HttpClient, account: Option<Account>, endpoint: Option<String>) -> Self {
        Self {
            http,
            account,
            endpoint,
            clock: Clock::system(),
        }
    }

    /// Sends a GET for a path of a service, such as `/2016-08-19/account-settings/` of `lambda`.
    pub async fn get(&self, service: &str, path: &str) -> Result<Bytes, Error> {
        let asked = Asked {
            service,
            method: Method::GET,
            path,
            body: String::new(),
        };
        self.ask(&asked).await
    }

    /// Sends an action in the AWS query protocol, such as `Action=DescribeStacks&…` to `cloudformation`.
    pub async fn query(&self, service: &str, parameters: String) -> Result<Bytes, Error> {
        let asked = Asked {
            service,
            method: Method::POST,
            path: "/",
            body: parameters,
        };
        self.ask(&asked).await
    }

    /// Reads the status of a CloudFormation stack, such as `UPDATE_IN_PROGRESS` (AWS CloudFormation API
    /// Reference, "Stack"). Empty if the response has none.
    pub async fn stack_status(&self, stack_id: &str) -> Result<String, Error> {
        let stack = utf8_percent_encode(stack_id, NON_ALPHANUMERIC);
        let asked = format!("Action=DescribeStacks&StackName={stack}&Version=2010-05-15");
        let answer = self.query("cloudformation", asked).await?;
        Ok(status_in(&String::from_utf8_lossy(&answer)).to_owned())
    }

    /// Sends a request, and retries transient failures.
    async fn ask(&self, asked: &Asked<'_>) -> Result<Bytes, Error> {
        let account = self.account.as_ref().ok_or(Error::NoAccount)?;
        let own = || format!("https://{}.{}.amazonaws.com", asked.service, account.region);
        let url = self.endpoint.clone().unwrap_or_else(own);
        let url = format!("{}{}", url.trim_end_matches('/'), asked.path);
        let url: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| Error::Endpoint(error.into()))?;
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.ask_once(account, &url, asked).await {
                Err(error) if error.may_pass() => sleep(pause).await,
                outcome => return outcome,
            }
            pause *= 2;
        }
        self.ask_once(account, &url, asked).await
    }

    async fn ask_once(&self, account: &Account, url: &Uri, asked: &Asked<'_>) -> Result<Bytes, Error> {
        let server = Origin::of(url).map_err(|error| Error::Endpoint(error.into()))?;
        let host = url.authority().map_or("", Authority::as_str).to_owned();
        let path = url.path_and_query().map_or("/", PathAndQuery::as_str);
        let signed = self.signature(account, url, asked)?;
        let sending = self.http.send(&server, || {
            let mut request = Request::builder()
                .method(asked.method.clone())
                .uri(path)
                .header(HOST, &host);
            if asked.method == Method::POST {
                request = request.header(CONTENT_TYPE, FORM);
            }
            for (name, value) in &signed {
                request = request.header(name, value);
            }
            Ok(request.body(Full::new(Bytes::from(asked.body.clone())))?)
        });
        let answer = match timeout(ATTEMPT_TIMEOUT, sending).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Error::Unreachable(host, error)),
            Err(elapsed) => return Err(Error::Timeout(host, elapsed)),
        };
        let (status, body) = (answer.status(), answer.into_body());
        if !status.is_success() {
            let answer = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(Error::Refused { host, status, answer });
        }
        Ok(body)
    }

    /// Computes the headers that sign a request (AWS Identity and Access Management User Guide, "Create a
    /// signed AWS API request").
    fn signature(
        &self,
        account: &Account,
        url: &Uri,
        asked: &Asked<'_>,
    ) -> Result<Vec<(String, String)>, Error> {
        let identity = account.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(account.region.as_ref())
            .name(asked.service)
            .time(SystemTime::from(self.clock.now()))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let url = url.to_string();
        let headers = (asked.method == Method::POST).then_some(("content-type", FORM));
        let body = SignableBody::Bytes(asked.body.as_bytes());
        let request = SignableRequest::new(asked.method.as_str(), &url, headers.into_iter(), body)?;
        let (instructions, _) = sign(request, &parameters)?.into_parts();
        let headers = instructions.headers();
        Ok(headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

/// Finds the stack's status in the XML of a response that describes one stack.
fn status_in(answer: &str) -> &str {
    let after = answer.split_once("<StackStatus>").map_or("", |(_, after)| after);
    after.split_once('<').map_or("", |(status, _)| status).trim()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_types::region::Region;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::aws::Aws;

    fn account() -> Account {
        Account {
            credentials: Credentials::new("AKID", "secret", Some("session".to_owned()), None, "test"),
            region: Region::new("eu-central-1"),
        }
    }

    /// Sends a request to a server that gives these responses in order. Returns the outcome and the requests
    /// that the server got.
    async fn asked_of(answers: &[&str]) -> (Result<Bytes, Error>, Vec<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let http = Aws::from_vars(&Vars::from_lookup(|_| None)).unwrap().http;
        let services = Services::new(http, Some(account()), Some(endpoint));
        let serving = async {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut raw = Vec::new();
                while !raw.ends_with(b"Version=2010-05-15") {
                    assert!(stream.read_buf(&mut raw).await.unwrap() > 0);
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                requests.push(String::from_utf8(raw).unwrap());
            }
            requests
        };
        let form = "Action=DescribeStacks&Version=2010-05-15".to_owned();
        tokio::join!(services.query("cloudformation", form), serving)
    }

    const BUSY: &str =
        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy";
    const DENIED: &str = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 4\r\n\r\nnope";
    const DONE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ndone";

    #[tokio::test]
    async fn a_request_is_signed_for_its_service_and_repeated_while_that_may_help() {
        let (answer, requests) = asked_of(&[BUSY, DONE]).await;
        assert_eq!(answer.unwrap(), "done");
        let request = requests[1].to_lowercase();
        assert!(request.starts_with("post / http/1.1\r\n"), "{request}");
        assert!(
            request.contains("/eu-central-1/cloudformation/aws4_request"),
            "{request}"
        );
        assert!(
            request.contains("signedheaders=content-type;host;x-amz-date;x-amz-security-token"),
            "{request}"
        );
        let (answer, _) = asked_of(&[BUSY, BUSY, BUSY]).await;
        assert!(answer.unwrap_err().to_string().contains("503"));
    }

    #[test]
    fn a_stacks_status_is_read_from_cloud_formations_answer() {
        let answer = "<DescribeStacksResponse><Stacks><member><StackName>s</StackName>\
                      <StackStatus>DELETE_IN_PROGRESS</StackStatus></member></Stacks></DescribeStacksResponse>";
        assert_eq!(status_in(answer), "DELETE_IN_PROGRESS");
        assert_eq!(status_in("<Error><Code>AccessDenied</Code></Error>"), "");
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_shown() {
        let (answer, requests) = asked_of(&[DENIED]).await;
        let error = answer.unwrap_err().to_string();
        assert!(error.contains("403") && error.ends_with(": nope"), "{error}");
        assert_eq!(requests.len(), 1);
    }
}
