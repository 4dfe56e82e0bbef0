//! The events with which API Gateway invokes functions, and their responses.
//!
//! Amazon API Gateway Developer Guide, "Create AWS Lambda proxy integrations for HTTP APIs" (payload format
//! version 2.0), and "Set up a WebSocket API integration request".

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::{HeaderMap, Response};
use platform::{Clock, ids};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A request to an HTTP API.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest<'a> {
    /// The route, such as `GET /files/{fileId}`.
    pub route: &'a str,
    /// The path of the request.
    pub path: &'a str,
    /// The query string, percent-encoded; empty if there is none.
    pub query: &'a str,
    /// The headers by lower-case name.
    pub headers: Map<String, Value>,
    /// The variables of the path by name.
    pub path_parameters: Map<String, Value>,
    /// The claims of the verified token.
    pub claims: Map<String, Value>,
    /// The body as text; `None` if there is none.
    pub body: Option<String>,
}

impl HttpRequest<'_> {
    /// The event as JSON text.
    pub fn event(&self) -> String {
        let method = self.route.split_once(' ').map(|(method, _)| method);
        json!({
            "version": "2.0",
            "routeKey": self.route,
            "rawPath": self.path,
            "rawQueryString": self.query,
            "headers": self.headers,
            "pathParameters": self.path_parameters,
            "requestContext": {
                "accountId": "000000000000",
                "apiId": "api",
                "authorizer": { "jwt": { "claims": self.claims, "scopes": null } },
                "domainName": "api.example",
                "domainPrefix": "api",
                "http": {
                    "method": method, "path": self.path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7",
                    "userAgent": "syncsphere",
                },
                "requestId": ids::new_id().to_string(),
                "routeKey": self.route,
                "stage": "$default",
                "time": "24/Nov/2026:16:00:00 +0000",
                "timeEpoch": 1_795_536_000_000_u64,
            },
            "isBase64Encoded": false,
            "body": self.body,
        })
        .to_string()
    }
}

/// The headers of a request, as [`HttpRequest`] has them. A value that is no text is empty.
pub fn headers(headers: &HeaderMap) -> Map<String, Value> {
    headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                value.to_str().unwrap_or_default().into(),
            )
        })
        .collect()
}

/// The response of a function to a request to an HTTP API.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpResponse {
    /// The HTTP status.
    pub status_code: u16,
    /// The headers by name.
    #[serde(default)]
    pub headers: Map<String, Value>,
    /// The body as text; `None` if there is none.
    #[serde(default)]
    pub body: Option<String>,
}

impl HttpResponse {
    /// Parses the response of a function.
    pub fn parse(answer: &[u8]) -> Result<Self> {
        serde_json::from_slice(answer).context("the answer of a function has another form")
    }

    /// The response as the client gets it.
    pub fn into_response(self) -> Result<Response<Body>> {
        let mut response = Response::builder().status(self.status_code);
        for (name, value) in &self.headers {
            response = response.header(name, value.as_str().unwrap_or_default());
        }
        Ok(response.body(Body::from(self.body.unwrap_or_default()))?)
    }
}

/// An event of a connection to a WebSocket API.
#[derive(Clone, Copy, Debug)]
pub struct SocketEvent<'a> {
    /// The route, such as `$connect`.
    pub route: &'a str,
    /// `CONNECT`, `MESSAGE` or `DISCONNECT`.
    pub kind: &'a str,
    /// The stage of the API.
    pub stage: &'a str,
    /// API Gateway's id of the connection.
    pub connection_id: &'a str,
    /// The query parameter `ticket`, if there is one.
    pub ticket: Option<&'a str>,
    /// The message, if there is one.
    pub message: Option<&'a str>,
}

impl SocketEvent<'_> {
    /// The event as JSON text.
    pub fn event(&self) -> String {
        let now = Clock::system().now().unix_timestamp_nanos() / 1_000_000;
        let now = i64::try_from(now).unwrap_or_default();
        let mut event = json!({
            "headers": { "Host": "api.example" },
            "multiValueHeaders": { "Host": ["api.example"] },
            "requestContext": {
                "routeKey": self.route,
                "eventType": self.kind,
                "extendedRequestId": self.connection_id,
                "requestTime": "24/Nov/2026:16:00:00 +0000",
                "messageDirection": "IN",
                "stage": self.stage,
                "connectedAt": now,
                "requestTimeEpoch": now,
                "identity": { "sourceIp": "203.0.113.7", "userAgent": "syncsphere" },
                "requestId": ids::new_id().to_string(),
                "domainName": "api.example",
                "connectionId": self.connection_id,
                "apiId": "api",
            },
            "isBase64Encoded": false,
        });
        if let Some(ticket) = self.ticket {
            event["queryStringParameters"] = json!({ "ticket": ticket });
            event["multiValueQueryStringParameters"] = json!({ "ticket": [ticket] });
        }
        if let Some(message) = self.message {
            event["body"] = message.into();
        }
        event.to_string()
    }
}
