//! The caller's account.

use model::ProfileView;
use reqwest::Method;

use crate::{Client, Error};

impl Client {
    /// `GET /me`: the caller's profile, and the use of each limit.
    pub async fn profile(&self) -> Result<ProfileView, Error> {
        self.call(self.request(Method::GET, "/me")).await
    }

    /// `DELETE /me`: erases the caller's account, the personal space and the spaces without another member.
    pub async fn erase_account(&self) -> Result<(), Error> {
        self.answer(self.request(Method::DELETE, "/me")).await?;
        Ok(())
    }
}
