//! Invitations to shared spaces.

use model::{
    AcceptInvitationRequest, DeclineInvitationRequest, EmailAddress, InvitationId, InvitationList,
    InvitationView, InviteRequest, MemberView, ReceivedInvitation, ReceivedInvitationList, Role, SpaceId,
    UserId,
};
use reqwest::Method;

use crate::{Client, Error};

/// The person to invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invited {
    /// A user of the service.
    User(UserId),
    /// Whoever proves to have this address, now or later.
    Email(EmailAddress),
}

impl Client {
    /// `POST /spaces/{spaceId}/invitations`: invites a person, or gives a pending invitation another role.
    pub async fn invite(
        &self,
        space_id: SpaceId,
        invited: Invited,
        role: Role,
    ) -> Result<InvitationView, Error> {
        let (user_id, email) = match invited {
            Invited::User(user_id) => (Some(user_id), None),
            Invited::Email(email) => (None, Some(email)),
        };
        let body = InviteRequest {
            user_id,
            email,
            role,
            device_id: self.device_id(),
        };
        let request = self.request(Method::POST, &format!("/spaces/{space_id}/invitations"));
        self.call(request.json(&body)).await
    }

    /// `GET /spaces/{spaceId}/invitations`, page by page: all pending invitations to a space.
    pub async fn all_invitations(&self, space_id: SpaceId) -> Result<Vec<InvitationView>, Error> {
        let mut invitations = Vec::new();
        let path = format!("/spaces/{space_id}/invitations");
        self.pages(&path, |list: InvitationList| {
            invitations.extend(list.invitations);
            Ok::<_, Error>(list.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        Ok(invitations)
    }

    /// `DELETE /spaces/{spaceId}/invitations/{invitationId}`: withdraws an invitation.
    pub async fn withdraw_invitation(&self, space_id: SpaceId, id: InvitationId) -> Result<(), Error> {
        let path = format!("/spaces/{space_id}/invitations/{id}");
        self.answer(self.request(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// `GET /invitations`, page by page: all pending invitations of the caller.
    pub async fn received_invitations(&self) -> Result<Vec<ReceivedInvitation>, Error> {
        let mut invitations = Vec::new();
        self.pages("/invitations", |list: ReceivedInvitationList| {
            invitations.extend(list.invitations);
            Ok::<_, Error>(list.next_page_token.map(|token| token.to_string()))
        })
        .await?;
        Ok(invitations)
    }

    /// `POST /invitations/{invitationId}/accept`: makes the caller a member of the space.
    pub async fn accept_invitation(&self, id: InvitationId) -> Result<MemberView, Error> {
        let body = AcceptInvitationRequest {
            device_id: self.device_id(),
        };
        let request = self.request(Method::POST, &format!("/invitations/{id}/accept"));
        self.call(request.json(&body)).await
    }

    /// `POST /invitations/{invitationId}/decline`: ends an invitation. With `block`, the caller sees no more
    /// invitations of the same inviter, and the inviter is not told. Declining again succeeds.
    pub async fn decline_invitation(&self, id: InvitationId, block: bool) -> Result<(), Error> {
        let body = DeclineInvitationRequest { block: Some(block) };
        let request = self.request(Method::POST, &format!("/invitations/{id}/decline"));
        self.answer(request.json(&body)).await?;
        Ok(())
    }
}
