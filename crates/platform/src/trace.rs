//! X-Ray tracing of an invocation.
//!
//! Lambda records the invocations. A function can add subsegments, which it sends to the X-Ray daemon that
//! Lambda runs (AWS X-Ray Developer Guide, "Sending trace data to X-Ray" and "X-Ray segment documents").

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use serde_json::json;
use time::OffsetDateTime;
use tracing::debug;

use crate::config::Vars;
use crate::ids;

/// The header line before each document to the daemon.
const PREFIX: &str = r#"{"format": "json", "version": 1}"#;

tokio::task_local! {
    static HEADER: Option<String>;
}

/// Runs a future as part of a trace. `header` is the tracing header of the invocation, if it has one.
pub async fn scope<T>(header: Option<String>, work: impl Future<Output = T>) -> T {
    HEADER.scope(header, work).await
}

/// The invocation's tracing header, as `Root=…;Parent=…;Sampled=…`, for a message that continues the trace;
/// `None` outside of a trace. Other fields that Lambda adds are omitted, so that the receiver cannot reject
/// the header (AWS X-Ray Developer Guide, "Tracing header").
pub fn header() -> Option<String> {
    let all = HEADER.try_with(Clone::clone).ok().flatten()?;
    let known = |field: &&str| {
        ["Root=", "Parent=", "Sampled="]
            .iter()
            .any(|name| field.starts_with(name))
    };
    let fields: Vec<&str> = all.split(';').map(str::trim).filter(known).collect();
    fields.first()?.starts_with("Root=").then(|| fields.join(";"))
}

/// Sends subsegments to the X-Ray daemon, or drops them if there is none.
#[derive(Debug, Default)]
pub struct Tracer(Option<(UdpSocket, SocketAddr)>);

impl Tracer {
    /// Uses the daemon at `AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets.
    pub fn from_vars(vars: &Vars<'_>) -> Self {
        Self::new(vars.of_lambda("AWS_XRAY_DAEMON_ADDRESS"))
    }

    /// Uses the daemon at an address such as `169.254.100.1:2000`; `None` drops all subsegments.
    pub fn new(daemon: Option<SocketAddr>) -> Self {
        let open = |address| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
            // The function does not wait for a slow daemon.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        };
        Self(daemon.and_then(open))
    }

    /// Records a part of the invocation as a subsegment, if the trace is sampled. Delivery is best effort: a
    /// subsegment that cannot be sent is dropped.
    pub fn record(
        &self,
        name: &str,
        begun: OffsetDateTime,
        ended: OffsetDateTime,
        metadata: impl fmt::Display,
    ) {
        let (Some((socket, daemon)), Some(header)) = (&self.0, header()) else {
            return;
        };
        let field = |name: &str| header.split(';').find_map(|field| field.strip_prefix(name));
        let (Some(trace_id), Some(parent_id), Some("1")) =
            (field("Root="), field("Parent="), field("Sampled="))
        else {
            return;
        };
        let document = json!({
            "type": "subsegment",
            "id": format!("{:016x}", ids::new_id().as_u64_pair().1),
            "trace_id": trace_id,
            "parent_id": parent_id,
            "name": name,
            "namespace": "remote",
            "start_time": seconds(begun),
            "end_time": seconds(ended),
            "metadata": { "default": { "outcome": metadata.to_string() } },
        });
        if let Err(error) = socket.send_to(format!("{PREFIX}\n{document}").as_bytes(), daemon) {
            debug!(?error, "a subsegment was not sent");
        }
    }
}

fn seconds(time: OffsetDateTime) -> f64 {
    (time - OffsetDateTime::UNIX_EPOCH).as_seconds_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::Value;
    use time::macros::datetime;

    use super::*;

    const TRACE: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8";

    #[tokio::test]
    async fn work_knows_the_trace_that_it_is_part_of() {
        let inside = async |given: &str| scope(Some(given.to_owned()), async { header() }).await;
        let whole = format!("{TRACE};Sampled=1");
        assert_eq!(inside(&whole).await.as_ref(), Some(&whole));
        let more = format!("{TRACE};Sampled=1;Lineage=a87bd80c:1|68fd508a:5");
        assert_eq!(inside(&more).await.as_ref(), Some(&whole));
        // Without active tracing, Lambda gives the id alone.
        let untraced = "Root=1-5759e988-bd862e3fe1be46a994272793";
        assert_eq!(inside(untraced).await.as_deref(), Some(untraced));
        assert_eq!(inside("nonsense").await, None);
        assert_eq!(header(), None);
    }

    #[tokio::test]
    async fn a_part_of_a_sampled_trace_goes_to_the_daemon_and_no_other() {
        let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
        daemon.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let tracer = Tracer::new(Some(daemon.local_addr().unwrap()));
        let begun = datetime!(2026-01-02 03:04:05.25 UTC);
        let record = async || tracer.record("posts", begun, begun + Duration::from_millis(500), 7);
        record().await;
        scope(Some(format!("{TRACE};Sampled=0")), record()).await;
        scope(Some(format!("{TRACE};Sampled=1")), record()).await;

        let mut buffer = [0; 1_000];
        let length = daemon.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let (prefix, document) = text.split_once('\n').unwrap();
        assert_eq!(prefix, PREFIX);
        let document: Value = serde_json::from_str(document).unwrap();
        assert_eq!(document["trace_id"], "1-5759e988-bd862e3fe1be46a994272793");
        assert_eq!(document["parent_id"], "53995c3f42cd8ad8");
        assert_eq!(document["id"].as_str().unwrap().len(), 16);
        let took = document["end_time"].as_f64().unwrap() - document["start_time"].as_f64().unwrap();
        assert!((took - 0.5).abs() < 1e-6, "{took}");
        daemon.set_nonblocking(true).unwrap();
        assert!(daemon.recv(&mut buffer).is_err(), "one alone");
    }
}
