//! The caller's account.

use model::ProfileView;
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// `GET /me`: the caller's profile, and the use of each limit. Name and address are those of the newest
    /// token that had them.
    pub async fn profile(&self) -> Result<ProfileView, Error> {
        self.call(self.request(Method::GET, "/me")).await
    }

    /// `DELETE /me`: erases the caller's account. The caller leaves all spaces, and everything in the personal
    /// space and in spaces without another member is deleted for good. From then on the caller's requests get
    /// 403 `account-erased`; repeating this one succeeds.
    ///
    /// 409 `last-owner` if the caller is the only owner of spaces with other members, which
    /// [`Problem::space_ids`](crate::Problem::space_ids) lists. Nothing is changed then: make somebody else an
    /// owner of each of them, or delete it, first.
    pub async fn erase_account(&self) -> Result<(), Error> {
        self.answer(self.request(Method::DELETE, "/me")).await?;
        Ok(())
    }
}
