//! Requests and responses of an API Gateway HTTP API (payload format version 2.0).

use std::any::Any;
use std::borrow::Cow;
use std::panic::AssertUnwindSafe;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{Instrument as _, error, info_span, warn};

use crate::Problem;

/// The largest body that is read, in bytes. The largest valid one, a page of 100 parts, has about 8 KiB.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What a handler answers with.
pub type Response = ApiGatewayV2httpResponse;

/// A request whose caller API Gateway's JWT authorizer has verified.
#[derive(Clone, Copy)]
pub struct Request<'a>(&'a ApiGatewayV2httpRequest);

impl<'a> Request<'a> {
    /// Wraps what Lambda delivers.
    pub fn new(event: &'a ApiGatewayV2httpRequest) -> Self {
        Self(event)
    }

    /// The route that API Gateway chose, such as `POST /uploads`.
    pub fn route(self) -> &'a str {
        self.0.request_context.route_key.as_deref().unwrap_or_default()
    }

    /// API Gateway's id of this request, for the user to quote and the operator to find.
    pub fn id(self) -> &'a str {
        self.0.request_context.request_id.as_deref().unwrap_or_default()
    }

    /// The `sub` claim of the verified token; 401 without one.
    pub fn subject(self) -> Result<&'a str, Problem> {
        let authorizer = self.0.request_context.authorizer.as_ref();
        let claims = authorizer.and_then(|authorizer| authorizer.jwt.as_ref()).map(|jwt| &jwt.claims);
        claims.and_then(|claims| claims.get("sub")).map(String::as_str).ok_or_else(|| {
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", "The token names no subject (sub).")
        })
    }

    /// A variable of the path.
    pub fn path_parameter(self, name: &str) -> Option<&'a str> {
        self.0.path_parameters.get(name).map(String::as_str)
    }

    /// The body, as JSON of this shape; 400 or 413 otherwise. A body that is missing counts as `{}`.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let text = self.0.body.as_deref().unwrap_or_default();
        if text.len() > MAX_BODY_BYTES * 4 / 3 + 4 {
            return Err(too_large());
        }
        let bytes: Cow<'_, [u8]> = if self.0.is_base64_encoded {
            let decoded = BASE64_STANDARD.decode(text);
            decoded.map_err(|_| Problem::invalid("The body is not valid base64."))?.into()
        } else {
            text.as_bytes().into()
        };
        if bytes.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let deserializer = &mut serde_json::Deserializer::from_slice(bytes);
        let value = serde_path_to_error::deserialize(&mut *deserializer).map_err(|error| {
            let path = error.path().to_string();
            let reason = error.into_inner();
            if reason.is_data() {
                let at = if path == "." { String::new() } else { format!("{path}: ") };
                Problem::invalid(format!("{at}{}", without_position(&reason)))
            } else {
                Problem::invalid(format!("The body is not valid JSON: {reason}"))
            }
        })?;
        deserializer.end().map_err(|reason| Problem::invalid(format!("The body is not valid JSON: {reason}")))?;
        Ok(value)
    }
}

/// `serde_json` appends where in the text it stopped; after the name of the field that says nothing more.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        format!("A body has at most {MAX_BODY_BYTES} bytes."),
    )
}

/// A response with a JSON body. Answers are about one user at one moment, so nothing may cache them.
pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_string(body).map_err(Problem::internal)?;
    Ok(response(status, "application/json", body))
}

/// 404 for a route that the function does not have.
pub fn no_such_route(request: Request<'_>) -> Problem {
    let http = &request.0.request_context.http;
    let path = request.0.raw_path.as_deref().unwrap_or_default();
    Problem::not_found(format!("There is no route {} {path}.", http.method))
}

/// Runs a handler: a problem becomes its response, and a panic a problem. Failures are logged here, once.
pub async fn respond<F>(request: Request<'_>, handler: F) -> Response
where
    F: Future<Output = Result<Response, Problem>>,
{
    let span = info_span!("request", request_id = request.id(), route = request.route());
    async {
        let outcome = AssertUnwindSafe(handler).catch_unwind().await;
        let problem = match outcome {
            Ok(Ok(response)) => return response,
            Ok(Err(problem)) => problem,
            Err(panic) => Problem::internal(format!("panic: {}", panic_message(panic.as_ref()))),
        };
        let status = problem.status();
        match problem.cause() {
            Some(cause) => error!(
                status = status.as_u16(),
                error = cause as &dyn std::error::Error,
                "request {} failed: {}",
                request.id(),
                problem.code(),
            ),
            None => warn!(status = status.as_u16(), "request {} refused: {}", request.id(), problem.code()),
        }
        response(status, "application/problem+json", problem.body(request.id()))
    }
    .instrument(span)
    .await
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = Response::default();
    response.status_code = i64::from(status.as_u16());
    response.headers = headers;
    response.body = Some(Body::Text(body));
    response
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("of an unknown kind")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Outer {
        inner: Inner,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        number: u8,
    }

    fn with_body(body: &str) -> ApiGatewayV2httpRequest {
        let mut event = ApiGatewayV2httpRequest::default();
        event.body = Some(body.to_owned());
        event
    }

    fn refusal(body: &str) -> (u16, String) {
        let problem = Request::new(&with_body(body)).json::<Outer>().unwrap_err();
        let text: serde_json::Value = serde_json::from_str(&problem.body("")).unwrap();
        (problem.status().as_u16(), text["detail"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_body_that_is_not_what_the_route_takes_says_where_and_why() {
        let valid = with_body(r#"{"inner":{"number":7}}"#);
        assert_eq!(Request::new(&valid).json::<Outer>().unwrap(), Outer { inner: Inner { number: 7 } });

        let detail = |body: &str| refusal(body).1;
        assert_eq!(detail(r#"{"inner":{"number":700}}"#), "inner.number: invalid value: integer `700`, expected u8");
        assert_eq!(detail(r#"{"inner":{}}"#), "inner: missing field `number`");
        assert_eq!(detail(r#"{"other":1}"#), "other: unknown field `other`, expected `inner`");
        assert_eq!(detail(""), "missing field `inner`");
        assert!(detail("{").starts_with("The body is not valid JSON: EOF"));
        assert!(detail(r#"{"inner":{"number":7}} x"#).starts_with("The body is not valid JSON: trailing"));
    }

    #[test]
    fn a_huge_body_is_413_before_it_is_read() {
        assert_eq!(refusal(&"[".repeat(MAX_BODY_BYTES + 1)).0, 413);
        assert_eq!(refusal(&"[".repeat(10 * MAX_BODY_BYTES)).0, 413);
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_of_it() {
        let event = ApiGatewayV2httpRequest::default();
        let response = respond(Request::new(&event), async { panic!("secret") }).await;
        assert_eq!(response.status_code, 500);
        let Some(Body::Text(body)) = response.body else { panic!("no body") };
        assert!(body.contains("internal-error") && !body.contains("secret"), "{body}");
    }
}
