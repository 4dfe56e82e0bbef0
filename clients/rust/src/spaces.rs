//! Spaces and their members.

use model::{
    CreateSpaceRequest, DeletedSpaceList, DeletedSpaceView, IdempotencyKey, MemberList, MemberView,
    RenameSpaceRequest, RestoreSpaceRequest, Role, SetMemberRequest, SpaceId, SpaceName, SpaceView, UserId,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// `GET /spaces`, page by page: all spaces of the caller, oldest first. From then on, requests of this
    /// client and its clones name the epoch of the list.
    pub async fn all_spaces(&self) -> Result<Vec<SpaceView>, Error> {
        let (_epoch, spaces) = self.list_spaces().await?;
        Ok(spaces)
    }

    /// `POST /spaces`: creates a shared space with the caller as its owner. Repeating the call with the same
    /// key returns the same space.
    pub async fn create_space(&self, name: SpaceName, key: &IdempotencyKey) -> Result<SpaceView, Error> {
        let body = CreateSpaceRequest {
            name,
            device_id: self.device_id(),
        };
        let request = self.request(Method::POST, "/spaces").json(&body);
        self.call(request.header("Idempotency-Key", key.as_str())).await
    }

    /// `PATCH /spaces/{spaceId}`: gives a shared space another name.
    pub async fn rename_space(&self, space_id: SpaceId, name: SpaceName) -> Result<SpaceView, Error> {
        let body = RenameSpaceRequest {
            name,
            device_id: self.device_id(),
        };
        let request = self.request(Method::PATCH, &format!("/spaces/{space_id}"));
        self.call(request.json(&body)).await
    }

    /// `DELETE /spaces/{spaceId}`: deletes a shared space for all of its members. Its owners can restore it for
    /// the stack's `TrashDays`, 30 unless configured otherwise. Only owners can (403 `forbidden`).
    pub async fn delete_space(&self, space_id: SpaceId) -> Result<(), Error> {
        let device = self.device_id().map(|device| ("deviceId", device.to_string()));
        let query: Vec<_> = device.into_iter().collect();
        let request = self.request(Method::DELETE, &format!("/spaces/{space_id}"));
        self.answer(request.query(&query)).await?;
        Ok(())
    }

    /// `POST /spaces/{spaceId}/restore`: restores a deleted space with its files and members. Restoring a space
    /// that is not deleted succeeds. Only its owners can; for others, and after it is purged, it is 404.
    pub async fn restore_space(&self, space_id: SpaceId) -> Result<SpaceView, Error> {
        let body = RestoreSpaceRequest {
            device_id: self.device_id(),
        };
        let request = self.request(Method::POST, &format!("/spaces/{space_id}/restore"));
        self.call(request.json(&body)).await
    }

    /// `GET /spaces?deleted=true`, page by page: all deleted spaces that the caller owned and can restore,
    /// oldest first.
    pub async fn deleted_spaces(&self) -> Result<Vec<DeletedSpaceView>, Error> {
        let mut spaces = Vec::new();
        self.pages("/spaces?deleted=true", |list: DeletedSpaceList| {
            spaces.extend(list.spaces);
            Ok::<_, Error>(list.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        Ok(spaces)
    }

    /// `GET /spaces/{spaceId}/members`, page by page: all members of a space.
    pub async fn all_members(&self, space_id: SpaceId) -> Result<Vec<MemberView>, Error> {
        let mut members = Vec::new();
        self.pages(&format!("/spaces/{space_id}/members"), |list: MemberList| {
            members.extend(list.members);
            Ok::<_, Error>(list.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        Ok(members)
    }

    /// `PUT /spaces/{spaceId}/members/{userId}`: changes the role of a member.
    pub async fn set_member(
        &self,
        space_id: SpaceId,
        user_id: &UserId,
        role: Role,
    ) -> Result<MemberView, Error> {
        let body = SetMemberRequest {
            role,
            device_id: self.device_id(),
        };
        let request = self.request(Method::PUT, &member(space_id, user_id));
        self.call(request.json(&body)).await
    }

    /// `DELETE /spaces/{spaceId}/members/{userId}`: removes a member. Callers can also remove themselves.
    pub async fn remove_member(&self, space_id: SpaceId, user_id: &UserId) -> Result<(), Error> {
        let device = self.device_id().map(|device| ("deviceId", device.to_string()));
        let query: Vec<_> = device.into_iter().collect();
        let request = self.request(Method::DELETE, &member(space_id, user_id));
        self.answer(request.query(&query)).await?;
        Ok(())
    }
}

fn member(space_id: SpaceId, user_id: &UserId) -> String {
    let user_id = utf8_percent_encode(user_id.as_str(), NON_ALPHANUMERIC);
    format!("/spaces/{space_id}/members/{user_id}")
}
