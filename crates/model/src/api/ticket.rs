//! Tickets, which authorize one WebSocket connection each.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::DeviceId;

/// The body of `POST /tickets`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTicketRequest {
    /// The device that will connect, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// The 201 of `POST /tickets`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedTicket {
    /// The ticket: 256 random bits in unpadded base64url. It authorizes one connection and is a secret.
    pub ticket: String,
    /// The WebSocket URL, with the ticket in its query.
    pub url: String,
    /// The time until which the ticket can be used.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl std::fmt::Debug for CreatedTicket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedTicket")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
