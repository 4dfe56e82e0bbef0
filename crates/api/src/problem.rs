//! Errors in responses: RFC 9457, `application/problem+json`.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// A refusal or a failure. `detail` is for the user, `cause` for the operator; only `detail` is sent.
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    extensions: Map<String, Value>,
    retry_after: Option<Duration>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// Makes a refusal. `code` identifies the type of problem for programs and `title` describes it for
    /// people; both are constant. `detail` describes this occurrence.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            extensions: Map::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// 400: the request does not have the form that the route requires.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid-request",
            "The request is invalid",
            detail,
        )
    }

    /// 404: the resource does not exist, or the caller may not know of it.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// 503: a dependency failed, and a retry may succeed. The cause is only logged.
    pub fn unavailable(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "The service cannot answer at the moment. Nothing is lost; try again shortly.";
        let title = "Temporarily unavailable";
        Self {
            cause: Some(cause.into()),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", title, detail)
        }
    }

    /// 500: a defect. The cause is only logged.
    pub fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let detail = "The service has a defect here. Its operators can find it by the request id.";
        Self {
            cause: Some(cause.into()),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal-error",
                "Internal error",
                detail,
            )
        }
    }

    /// Adds an extension member to the body, for programs. A value that cannot be serialized is left out.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.extensions.insert(member.to_owned(), value);
        }
        self
    }

    /// Tells the client to repeat the request after this time, by the header `Retry-After` in whole seconds.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The value of the header `Retry-After`; `None` without such a header.
    pub(crate) fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|delay| delay.as_secs())
    }

    /// The HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The identifier of the type of problem, such as `not-found`.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The cause for the log; `None` for refusals.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.cause.as_deref()
    }

    /// The JSON body of the response, with the request's id.
    pub fn body(&self, request_id: &str) -> String {
        self.value(request_id).to_string()
    }

    /// The problem of an item of a batch. It has the member `retryAfter`, in seconds, in place of the header.
    pub(crate) fn item(self, request_id: &str) -> Value {
        let seconds = self.retry_after_seconds();
        match seconds {
            Some(seconds) => self.with("retryAfter", seconds).value(request_id),
            None => self.value(request_id),
        }
    }

    fn value(&self, request_id: &str) -> Value {
        let mut body = json!({
            "type": format!("urn:syncsphere:problem:{}", self.code),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
            "requestId": request_id,
        });
        if let Value::Object(members) = &mut body {
            members.extend(self.extensions.clone());
        }
        body
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("status", &self.status)
            .field("code", &self.code)
            .field("detail", &self.detail)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_stays_inside() {
        let problem = Problem::unavailable("password=hunter2").with("retry", 3);
        let body: Value = serde_json::from_str(&problem.body("r-1")).unwrap();
        assert_eq!(body["type"], "urn:syncsphere:problem:unavailable");
        assert_eq!(body["status"], 503);
        assert_eq!(body["requestId"], "r-1");
        assert_eq!(body["retry"], 3);
        assert!(!body.to_string().contains("hunter2"));
    }
}
