//! Spaces, their members and their changes.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{Cursor, DeviceId, Event, PageToken, Role, SpaceId, SpaceKind, SpaceName, UserId};

/// The body of `POST /spaces`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSpaceRequest {
    /// What members call it.
    #[serde(deserialize_with = "SpaceName::deserialize_new")]
    pub name: SpaceName,
    /// The device that makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A space as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceView {
    /// The space.
    pub space_id: SpaceId,
    /// Whose it is.
    pub kind: SpaceKind,
    /// What members call it, if it is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SpaceName>,
    /// The caller's role.
    pub role: Role,
    /// The number of the newest change, 0 if there is none.
    pub latest_sequence: Cursor,
}

/// The 200 of `GET /spaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceList {
    /// Oldest first.
    pub spaces: Vec<SpaceView>,
    /// Where the next page begins, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<SpaceId>>,
}

/// The body of `PUT /spaces/{spaceId}/members/{userId}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetMemberRequest {
    /// What the member may do from now on.
    pub role: Role,
    /// The device that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A member of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// The space.
    pub space_id: SpaceId,
    /// The member.
    pub user_id: UserId,
    /// What the member may do.
    pub role: Role,
    /// Since when the user is a member.
    #[serde(with = "rfc3339")]
    pub added_at: OffsetDateTime,
}

/// The 200 of `GET /spaces/{spaceId}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberList {
    /// In the order of their ids.
    pub members: Vec<MemberView>,
    /// Where the next page begins, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<UserId>>,
}

/// The 200 of `GET /changes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeList {
    /// In order, without gaps, from the one after `after`.
    pub changes: Vec<Event>,
    /// The number of the space's newest change, 0 if there is none.
    pub latest_sequence: Cursor,
    /// Whether there are changes after the last one here.
    pub has_more: bool,
}
