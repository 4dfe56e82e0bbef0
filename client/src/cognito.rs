//! Signing in to the stack's Cognito user pool.

use serde::Deserialize;
use serde_json::json;

use crate::api::checked;
use crate::{Error, Token, use_ring};

/// Signs in with user name and password (`USER_PASSWORD_AUTH`).
///
/// `endpoint` is `https://cognito-idp.<region>.amazonaws.com`, `client_id` the stack's output `UserPoolClientId`. The token
/// is the id token, whose audience the API checks.
pub async fn sign_in(endpoint: &str, client_id: &str, user: &str, password: &str) -> Result<Token, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        authentication_result: Tokens,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Tokens {
        id_token: String,
    }
    use_ring();
    let body = json!({
        "AuthFlow": "USER_PASSWORD_AUTH",
        "ClientId": client_id,
        "AuthParameters": { "USERNAME": user, "PASSWORD": password },
    });
    let request = reqwest::Client::new()
        .post(endpoint)
        .header("Content-Type", "application/x-amz-json-1.1")
        .header("X-Amz-Target", "AWSCognitoIdentityProviderService.InitiateAuth")
        .body(body.to_string());
    let response = checked(request.send().await?).await?;
    let answer: Answer = serde_json::from_slice(&response.bytes().await?)?;
    Ok(answer.authentication_result.id_token.into())
}
