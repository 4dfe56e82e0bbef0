//! Registers the local stack with the command-line client `syncsphere`, so that it needs no configuration.

use std::collections::BTreeMap;

use anyhow::Result;
use client::Session;
use syncsphere::accounts::{Accounts, Pool, Stack as KnownStack, User};

use crate::deployment::{STACK, Stack};

/// The registration of the local stack. Dropping the value removes it.
pub(crate) struct CliProfile {
    accounts: Accounts,
    http_api_url: String,
}

impl CliProfile {
    /// Registers the stack and its signed-in users. The first user becomes the default. If the developer has
    /// already chosen another stack, that choice stays.
    pub(crate) async fn register(
        accounts: Accounts,
        stack: &Stack,
        sessions: &[(&str, Session)],
    ) -> Result<Self> {
        let mut users = BTreeMap::new();
        for (name, session) in sessions {
            users.insert((*name).to_owned(), User::signed_in(session).await?);
        }
        let http_api_url = stack.outputs.http_api_url.clone();
        let known = KnownStack {
            http_api_url: http_api_url.clone(),
            user_pool: Some(Pool {
                endpoint: stack.aws_endpoint.clone(),
                client_id: stack.outputs.user_pool_client_id.clone(),
            }),
            user: sessions.first().map(|(name, _)| (*name).to_owned()),
            users,
        };
        accounts.change(STACK, |stack| *stack = Some(known))?;
        if accounts.default_stack().is_none() {
            accounts.set_default(STACK)?;
        }
        Ok(Self {
            accounts,
            http_api_url,
        })
    }
}

impl Drop for CliProfile {
    fn drop(&mut self) {
        // If the removal fails, the client will report that the stack cannot be reached.
        let _ = self.accounts.change(STACK, |stack| {
            // Another checkout may have registered its stack in the meantime.
            if stack
                .as_ref()
                .is_some_and(|stack| stack.http_api_url == self.http_api_url)
            {
                *stack = None;
            }
        });
    }
}
