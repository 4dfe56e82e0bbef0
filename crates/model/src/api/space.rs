//! Bodies about spaces, their members and their changes.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use crate::{
    Cursor, DeviceId, EmailAddress, Epoch, Event, PageToken, PersonName, Role, SpaceId, SpaceKind, SpaceName,
    UserId,
};

/// The body of `POST /spaces`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateSpaceRequest {
    /// The name of the new space.
    #[serde(deserialize_with = "SpaceName::deserialize_new")]
    pub name: SpaceName,
    /// The device that sends the request, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A space from the point of view of one of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceView {
    /// The id of the space.
    pub space_id: SpaceId,
    /// Whether the space is personal or shared.
    pub kind: SpaceKind,
    /// The name of a shared space; `None` for a personal one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<SpaceName>,
    /// The caller's role in the space.
    pub role: Role,
    /// The sequence number of the newest change; 0 if there is none.
    pub latest_sequence: Cursor,
    /// The size of the space's content in bytes, with old versions and the trash; `None` from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
}

/// The body of `PATCH /spaces/{spaceId}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RenameSpaceRequest {
    /// The new name of the space.
    #[serde(deserialize_with = "SpaceName::deserialize_new")]
    pub name: SpaceName,
    /// The device that sends the request, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// The body of `POST /spaces/{spaceId}/restore`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreSpaceRequest {
    /// The device that sends the request, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A deleted space from the point of view of one of its owners.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedSpaceView {
    /// The space as it would be restored.
    #[serde(flatten)]
    pub space: SpaceView,
    /// The time of the deletion.
    #[serde(with = "rfc3339")]
    pub deleted_at: OffsetDateTime,
    /// The time from which on the space cannot be restored.
    #[serde(with = "rfc3339")]
    pub purged_at: OffsetDateTime,
}

/// The 200 of `GET /spaces?deleted=true`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletedSpaceList {
    /// The deleted spaces that the caller owned, oldest first.
    pub spaces: Vec<DeletedSpaceView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<SpaceId>>,
    /// The current epoch.
    pub epoch: Epoch,
}

/// The 200 of `GET /spaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceList {
    /// The caller's spaces, oldest first.
    pub spaces: Vec<SpaceView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<SpaceId>>,
    /// The current epoch.
    pub epoch: Epoch,
}

/// The body of `PUT /spaces/{spaceId}/members/{userId}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetMemberRequest {
    /// The member's new role.
    pub role: Role,
    /// The device that sends the request, if the client names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<DeviceId>,
}

/// A member of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// The id of the space.
    pub space_id: SpaceId,
    /// The user id of the member.
    pub user_id: UserId,
    /// The member's name, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<PersonName>,
    /// The member's role in the space.
    pub role: Role,
    /// The time at which the user became a member.
    #[serde(with = "rfc3339")]
    pub added_at: OffsetDateTime,
}

/// The 200 of `GET /me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// The caller's user id.
    pub user_id: UserId,
    /// The caller's name, as other users see it; `None` if no token had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<PersonName>,
    /// The caller's verified e-mail address; `None` if no token had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<EmailAddress>,
    /// The current epoch.
    pub epoch: Epoch,
    /// The caller's use of each limit; `None` from earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// A user's use of each limit. The fields have the names that `quota-exceeded` gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Changes within the current minute.
    pub changes_per_minute: LimitUse,
    /// Uploads that are neither completed nor aborted.
    pub pending_uploads: LimitUse,
    /// Shared spaces that the user is a member of.
    pub spaces: LimitUse,
    /// Bytes of the personal space, with old versions and the trash. Every space has a limit of its own.
    pub space_bytes: LimitUse,
    /// Invitations that the user has made within the current day.
    pub invitations_per_day: LimitUse,
}

/// The use of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitUse {
    /// The current use. It exceeds the maximum if an operator has lowered that since.
    pub used: i64,
    /// The maximum.
    pub maximum: i64,
}

/// The 200 of `GET /spaces/{spaceId}/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberList {
    /// The members, ordered by user id.
    pub members: Vec<MemberView>,
    /// The token of the next page; `None` on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<PageToken<UserId>>,
}

/// The 200 of `GET /changes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeList {
    /// The changes after the position `after`, in order and without gaps.
    pub changes: Vec<Event>,
    /// The sequence number of the space's newest change; 0 if there is none.
    pub latest_sequence: Cursor,
    /// Whether the space has changes after the last one in this list.
    pub has_more: bool,
    /// The current epoch.
    pub epoch: Epoch,
    /// The sequence number of the space's newest change when the epoch began; `None` in the first epoch. A
    /// client that has seen later changes in an earlier epoch has more than the restored database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_at_sequence: Option<Cursor>,
}
