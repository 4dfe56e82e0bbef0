//! Bodies about invitations to shared spaces.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{DeviceId, EmailAddress, InvitationId, PageToken, PersonName, Role, SpaceId, SpaceName, UserId};

/// The body of `POST /spaces/{spaceId}/invitations`. It names a user id or an address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InviteRequest {
    /// The user id of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The e-mail address of the person, who need not have an account yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailAddress>,
    /// The role that the person gets by accepting.
    pub role: Role,
    /// The device that sends the request, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A pending invitation from the point of view of an owner of the space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvitationView {
    /// The id of the invitation.
    pub invitation_id: InvitationId,
    /// The id of the space.
    pub space_id: SpaceId,
    /// The user id of the person, if the invitation names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The e-mail address of the person, if the invitation names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailAddress>,
    /// The role that the person gets by accepting.
    pub role: Role,
    /// The owner who made the invitation.
    pub inviter_id: UserId,
    /// The name of this owner, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inviter_name: Option<PersonName>,
    /// The time of the invitation.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time from which on it cannot be accepted.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// The 200 of `GET /spaces/{spaceId}/invitations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InvitationList {
    /// The pending invitations to the space, oldest first.
    pub invitations: Vec<InvitationView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<InvitationId>>,
}

/// A pending invitation from the point of view of the invited person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedInvitation {
    /// The id of the invitation.
    pub invitation_id: InvitationId,
    /// The id of the space.
    pub space_id: SpaceId,
    /// The name of the space.
    pub space_name: SpaceName,
    /// The role that the person gets by accepting.
    pub role: Role,
    /// The owner who made the invitation.
    pub inviter_id: UserId,
    /// The name of this owner, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inviter_name: Option<PersonName>,
    /// The time of the invitation.
    #[serde(with = "rfc3339")]
    pub created_at: OffsetDateTime,
    /// The time from which on it cannot be accepted.
    #[serde(with = "rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// The 200 of `GET /invitations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedInvitationList {
    /// The caller's pending invitations, oldest first.
    pub invitations: Vec<ReceivedInvitation>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<InvitationId>>,
}

/// The body of `POST /invitations/{invitationId}/accept`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AcceptInvitationRequest {
    /// The device that sends the request, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// The body of `POST /invitations/{invitationId}/decline`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclineInvitationRequest {
    /// Whether to see no more invitations of the same inviter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<bool>,
}
