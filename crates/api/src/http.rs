//! Requests and responses of an API Gateway HTTP API (payload format version 2.0).

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use aws_lambda_events::encodings::Body;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use futures_util::FutureExt as _;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use metrics::counter;
use serde::de::DeserializeOwned;
use serde::{Deserializer, Serialize};
use tokio::time::Instant;
use tracing::{Instrument as _, error, info, info_span};

use model::{Caller, Profile, UserId};
use platform::error_chain;
use platform::panics::catch_panic_async;
use platform::summary::{self, Summary};

use crate::rejection::{LASTING_LIMITS, PASSING_LIMITS};
use crate::{Problem, QUOTA_REFUSALS};

/// The maximum size of a request body in bytes. The largest valid body, for 100 uploads with the longest paths,
/// has about 300 KiB.
pub const MAX_BODY_BYTES: usize = 512 * 1024;

/// The header, in lower case, in which a client may name the epoch that it knows.
pub const EPOCH_HEADER: &str = "syncsphere-epoch";

/// The response of a handler.
pub type Response = ApiGatewayV2httpResponse;

/// A request. API Gateway's JWT authorizer has verified the caller.
#[derive(Clone, Copy)]
pub struct Request<'a>(&'a ApiGatewayV2httpRequest);

impl<'a> Request<'a> {
    /// Wraps the event that Lambda delivers.
    pub fn new(event: &'a ApiGatewayV2httpRequest) -> Self {
        Self(event)
    }

    /// The route that API Gateway matched, such as `POST /uploads`; empty if the event has none.
    pub fn route(self) -> &'a str {
        self.0.request_context.route_key.as_deref().unwrap_or_default()
    }

    /// API Gateway's id of the request. Users quote it, and operators search the logs for it.
    pub fn id(self) -> &'a str {
        self.0.request_context.request_id.as_deref().unwrap_or_default()
    }

    fn subject(self) -> Result<UserId, Problem> {
        let unauthorized =
            |detail| Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail);
        let subject = self.claim("sub");
        let subject = subject.ok_or_else(|| unauthorized("The token has no claim sub.".to_owned()))?;
        UserId::try_from(subject.to_owned())
            .map_err(|error| unauthorized(format!("The token's claim sub is invalid: {error}.")))
    }

    /// The caller: the verified token's claims, and the epoch that the client knows. 401 if the claim `sub` is
    /// missing or invalid, 400 if the header `syncsphere-epoch` is not a UUID. A claim that cannot be shown, and
    /// an e-mail address that is not verified, are left out.
    pub fn caller(self) -> Result<Caller, Problem> {
        let email = self
            .claim("email")
            .filter(|_| self.claim("email_verified") == Some("true"));
        Ok(Caller {
            user_id: self.subject()?,
            epoch: self.header(EPOCH_HEADER)?,
            profile: Profile {
                name: self
                    .claim("name")
                    .and_then(|name| name.to_owned().try_into().ok()),
                email: email.and_then(|email| email.parse().ok()),
            },
        })
    }

    fn claim(self, name: &str) -> Option<&'a str> {
        let authorizer = self.0.request_context.authorizer.as_ref()?;
        authorizer.jwt.as_ref()?.claims.get(name).map(String::as_str)
    }

    /// A path parameter as text, without validation, for logs.
    pub fn path_text(self, name: &str) -> Option<&'a str> {
        self.0.path_parameters.get(name).map(String::as_str)
    }

    /// A path parameter, parsed. 404 if it is missing or invalid, because no resource can have that name. API
    /// Gateway has percent-decoded it.
    pub fn path_parameter<T: FromStr>(self, name: &str) -> Result<T, Problem> {
        let value = self.0.path_parameters.get(name);
        value
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| Problem::not_found("There is nothing like this, or nothing that you may see."))
    }

    /// A header, parsed; `name` is lower-case. `None` if the header is missing, 400 if it is invalid.
    pub fn header<T>(self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(value) = self.0.headers.get(name) else {
            return Ok(None);
        };
        let invalid = |reason: &dyn Display| Problem::invalid(format!("header {name}: {reason}"));
        let text = value.to_str().map_err(|error| invalid(&error))?;
        text.parse().map(Some).map_err(|error| invalid(&error))
    }

    /// The query string, deserialized as `T`. 400 if it is invalid.
    pub fn query<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let text = self.0.raw_query_string.as_deref().unwrap_or_default();
        let deserializer = serde_html_form::Deserializer::from_bytes(text.as_bytes());
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            let path = error.path().to_string();
            Problem::invalid(format!("query parameter {path}: {}", error.into_inner()))
        })
    }

    /// Rejects a query string with 400, for routes without query parameters.
    pub fn no_query(self) -> Result<(), Problem> {
        match self.0.raw_query_string.as_deref() {
            None | Some("") => Ok(()),
            Some(_) => Err(Problem::invalid("This route takes no query parameters.")),
        }
    }

    /// The body, deserialized from JSON as `T`. 400 if it is invalid, 413 if it is too large. A missing body
    /// counts as `{}`. Routes with a body take no query parameters, so a query string is rejected with 400.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Problem> {
        self.no_query()?;
        let text = self.0.body.as_deref().unwrap_or_default();
        if text.len() > MAX_BODY_BYTES * 4 / 3 + 4 {
            return Err(too_large());
        }
        let bytes: Cow<'_, [u8]> = if self.0.is_base64_encoded {
            let decoded = BASE64_STANDARD.decode(text);
            decoded
                .map_err(|_| Problem::invalid("The body is not valid base64."))?
                .into()
        } else {
            text.as_bytes().into()
        };
        if bytes.len() > MAX_BODY_BYTES {
            return Err(too_large());
        }
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        // Without this check, serde would accept an array as the fields of an object in order.
        if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
            return Err(Problem::invalid("The body is not a JSON object."));
        }
        let deserializer = &mut serde_json::Deserializer::from_slice(bytes);
        let value = parsed(&mut *deserializer)?;
        deserializer
            .end()
            .map_err(|reason| Problem::invalid(format!("The body is not valid JSON: {reason}")))?;
        Ok(value)
    }
}

/// Deserializes JSON as `T`. 400 if it is invalid.
pub(crate) fn parsed<'de, T: DeserializeOwned>(
    deserializer: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, Problem> {
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        let reason = error.into_inner();
        if reason.is_data() {
            let at = if path == "." {
                String::new()
            } else {
                format!("{path}: ")
            };
            Problem::invalid(format!("{at}{}", without_position(&reason)))
        } else {
            Problem::invalid(format!("The body is not valid JSON: {reason}"))
        }
    })
}

/// Removes the position that `serde_json` appends. It is redundant, because the message names the field.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ")
        .map_or(text.clone(), |(reason, _)| reason.to_owned())
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body-too-large",
        "The body is too large",
        format!("A body has at most {MAX_BODY_BYTES} bytes."),
    )
}

/// A response with a JSON body. It must not be cached, because it is specific to the user and the time.
pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_string(body).map_err(Problem::internal)?;
    Ok(with_body(status, "application/json", body))
}

/// A 307 to a secret URL. The response must not be cached.
pub fn redirect(location: &str) -> Result<Response, Problem> {
    let location = HeaderValue::from_str(location).map_err(Problem::internal)?;
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    response.headers.insert(LOCATION, location);
    response
        .headers
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A response with a status and no body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::default();
    response.status_code = i64::from(status.as_u16());
    response
}

/// The 404 problem for a route that the function does not implement.
pub fn no_such_route(request: Request<'_>) -> Problem {
    let http = &request.0.request_context.http;
    let path = request.0.raw_path.as_deref().unwrap_or_default();
    Problem::not_found(format!("There is no route {} {path}.", http.method))
}

/// Runs a handler in a span, which adds the request id, the route, the user id and the ids in the path to each
/// log line.
pub fn serve<'a, F>(request: Request<'a>, handler: F) -> impl Future<Output = Response> + use<'a, F>
where
    F: Future<Output = Result<Response, Problem>> + 'a,
{
    let (request_id, route) = (request.id(), request.route());
    let span = info_span!(
        "request",
        request_id,
        route,
        user_id = request.claim("sub"),
        upload_id = request.path_text("uploadId"),
        file_id = request.path_text("fileId"),
        space_id = request.path_text("spaceId"),
        invitation_id = request.path_text("invitationId"),
        member_id = request.path_text("userId"),
    );
    respond(request_id, handler).instrument(span)
}

/// Runs a handler. A problem becomes its response, and a panic becomes a 500. Writes the request's one line to
/// the log, with what was recorded in the [`summary`].
pub fn respond<'a, F>(request_id: &'a str, handler: F) -> impl Future<Output = Response> + use<'a, F>
where
    F: Future<Output = Result<Response, Problem>> + 'a,
{
    // Boxed: otherwise the types of the SDK's futures are nested too deeply for the compiler.
    let handler = handler.boxed_local();
    async move {
        let begun = Instant::now();
        let (outcome, summary) = summary::of(catch_panic_async(handler)).await;
        let outcome = outcome.unwrap_or_else(|panic| Err(Problem::internal(panic)));
        log(request_id, &outcome, begun, summary);
        outcome.unwrap_or_else(|problem| {
            let body = problem.body(request_id);
            let mut response = with_body(problem.status(), "application/problem+json", body);
            if let Some(seconds) = problem.retry_after_seconds() {
                response.headers.insert(RETRY_AFTER, seconds.into());
            }
            response
        })
    }
}

/// Writes the line of a request: its outcome, its duration, and the ids that were found while it was handled.
/// Counts a refusal by a limit that only an operator raises, once, also if items of a batch were refused.
fn log(request_id: &str, outcome: &Result<Response, Problem>, begun: Instant, mut summary: Summary) {
    let duration_ms = summary::milliseconds_since(begun);
    let [
        user_id,
        upload_ids,
        space_ids,
        event_ids,
        lasting_limits,
        passing_limits,
    ] = [
        "user_id",
        "upload_ids",
        "space_ids",
        "event_ids",
        LASTING_LIMITS,
        PASSING_LIMITS,
    ]
    .map(|field| summary.take(field));
    let others = summary.rest();
    if lasting_limits.is_some() {
        counter!(QUOTA_REFUSALS).increment(1);
    }
    macro_rules! line {
        ($level:ident, $status:expr, $error:expr, $($message:tt)+) => {
            $level!(
                status = $status,
                duration_ms,
                user_id,
                upload_ids,
                space_ids,
                event_ids,
                lasting_limits,
                passing_limits,
                others,
                error = $error,
                $($message)+
            )
        };
    }
    let no_error = None::<String>;
    match outcome {
        Ok(response) => line!(info, response.status_code, no_error, "answered"),
        Err(problem) => {
            let (status, code) = (i64::from(problem.status().as_u16()), problem.code());
            match problem.cause().map(|cause| error_chain(cause)) {
                None => line!(info, status, no_error, "request {request_id} refused: {code}"),
                error => line!(error, status, error, "request {request_id} failed: {code}"),
            }
        }
    }
}

fn with_body(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = empty(status);
    response
        .headers
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.body = Some(Body::Text(body));
    response
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
        (
            problem.status().as_u16(),
            text["detail"].as_str().unwrap().to_owned(),
        )
    }

    #[test]
    fn a_body_that_is_not_what_the_route_takes_says_where_and_why() {
        let valid = with_body(r#"{"inner":{"number":7}}"#);
        assert_eq!(
            Request::new(&valid).json::<Outer>().unwrap(),
            Outer {
                inner: Inner { number: 7 }
            }
        );

        let detail = |body: &str| refusal(body).1;
        assert_eq!(
            detail(r#"{"inner":{"number":700}}"#),
            "inner.number: invalid value: integer `700`, expected u8"
        );
        assert_eq!(detail(r#"{"inner":{}}"#), "inner: missing field `number`");
        assert_eq!(
            detail(r#"{"other":1}"#),
            "other: unknown field `other`, expected `inner`"
        );
        assert_eq!(detail(""), "missing field `inner`");
        assert!(detail("{").starts_with("The body is not valid JSON: EOF"));
        assert_eq!(detail(r#" [{"number":7}]"#), "The body is not a JSON object.");
        let mut with_query = with_body(r#"{"inner":{"number":7}}"#);
        with_query.raw_query_string = Some("inner=7".to_owned());
        assert!(Request::new(&with_query).json::<Outer>().is_err());
        assert!(detail(r#"{"inner":{"number":7}} x"#).starts_with("The body is not valid JSON: trailing"));
    }

    #[test]
    fn a_query_that_is_not_what_the_route_takes_says_where_and_why() {
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Query {
            #[serde(default)]
            prefix: Option<String>,
            #[serde(default)]
            limit: Option<u8>,
        }
        let query = |text: &str| {
            let mut event = ApiGatewayV2httpRequest::default();
            event.raw_query_string = Some(text.to_owned());
            Request::new(&event).query::<Query>().map_err(|problem| {
                let body: serde_json::Value = serde_json::from_str(&problem.body("")).unwrap();
                (
                    problem.status().as_u16(),
                    body["detail"].as_str().unwrap().to_owned(),
                )
            })
        };
        let some = Query {
            prefix: Some("/ä b".to_owned()),
            limit: Some(7),
        };
        assert_eq!(query("prefix=%2F%C3%A4+b&limit=7"), Ok(some));
        assert_eq!(
            query(""),
            Ok(Query {
                prefix: None,
                limit: None
            })
        );
        for bad in ["limit=700", "limit=x", "limit=1&limit=2", "colour=red"] {
            let (status, detail) = query(bad).unwrap_err();
            assert_eq!(status, 400, "{bad}");
            let name = bad.split('=').next().unwrap();
            assert!(
                detail.starts_with(&format!("query parameter {name}: ")),
                "{detail}"
            );
        }
    }

    #[test]
    fn a_huge_body_is_413_before_it_is_read() {
        assert_eq!(refusal(&"[".repeat(MAX_BODY_BYTES + 1)).0, 413);
        assert_eq!(refusal(&"[".repeat(10 * MAX_BODY_BYTES)).0, 413);
    }

    #[tokio::test]
    async fn a_panic_is_a_500_that_says_nothing_of_it() {
        let response = respond("r-1", async { panic!("secret") }).await;
        assert_eq!(response.status_code, 500);
        let Some(Body::Text(body)) = response.body else {
            panic!("no body")
        };
        assert!(
            body.contains("internal-error") && body.contains("r-1") && !body.contains("secret"),
            "{body}"
        );
    }
}
