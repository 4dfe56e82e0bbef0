//! The deployed stack and clients for it.

use std::env;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use ::stack::{STACK, Stack};
use aws_sdk_sqs::types::Message;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use client::Token;
use serde_json::Value;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{sleep, timeout};

/// Lock on the stack. Most tests share it; a test that blocks the emulator for seconds locks it exclusively.
static USE: RwLock<()> = RwLock::const_new(());

/// Guard of a test that shares the stack with others.
pub type Shared = RwLockReadGuard<'static, ()>;

/// Locks the stack for shared use; waits while a test has it exclusively.
pub async fn lock_shared() -> Shared {
    USE.read().await
}

/// Locks the stack exclusively; waits until no other test uses it.
pub async fn lock_exclusive() -> RwLockWriteGuard<'static, ()> {
    USE.write().await
}

/// The stack that `cargo xtask test` deployed. Panics if `SYNCSPHERE_STACK` is not set.
pub fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let file = env::var_os("SYNCSPHERE_STACK").map(PathBuf::from);
        let file = file.expect("these tests need the local stack: run `cargo xtask test`");
        let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice(&text).unwrap()
    })
}

/// SDK configuration for clients of the emulator.
pub fn aws() -> aws_types::SdkConfig {
    ::stack::emulator::aws_config(&stack().aws_endpoint).unwrap()
}

/// Creates a new user in the stack and signs in. Returns the user name and a token.
pub async fn new_user() -> (String, Token) {
    let user = format!("user-{}", platform::ids::new_id());
    stack().create_user(&user).await.unwrap();
    let session = stack().sign_in(&user).await.unwrap();
    let token = session.token().await.unwrap();
    (user, token)
}

/// The `sub` claim of a token, read without verifying the token.
pub fn subject(token: &Token) -> String {
    let claims = token.as_str().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

/// Waits up to 20 s for a message with this body in the stack's dead-letter queue. The message stays in the
/// queue.
pub async fn dead_letter(sqs: &aws_sdk_sqs::Client, body: &str) -> Message {
    let looking = async {
        loop {
            let request = sqs.receive_message().max_number_of_messages(10);
            let request = request
                .queue_url(&stack().outputs.dead_letter_queue_url)
                .visibility_timeout(1);
            let messages = request.send().await.unwrap().messages.unwrap_or_default();
            let wanted = messages.into_iter().find(|message| message.body() == Some(body));
            if let Some(message) = wanted {
                return message;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(Duration::from_secs(20), looking)
        .await
        .expect("no dead letter")
}

/// HTTP client with reqwest's default settings.
pub fn raw_http() -> reqwest::Client {
    client::install_crypto_provider();
    reqwest::Client::new()
}

/// Request to an emulator API that has no SDK client here, with the account owner's credentials.
pub fn emulator(method: reqwest::Method, service: &str, path: &str) -> reqwest::RequestBuilder {
    ::stack::emulator::request(&stack().aws_endpoint, method, service, path).unwrap()
}

/// Invokes a function of the stack by its logical id and returns its response. Panics if the function fails.
pub async fn invoke(function: &str, event: &Value) -> Value {
    let path = "/2015-03-31/functions";
    let listing = emulator(reqwest::Method::GET, "lambda", &format!("{path}/"));
    let listed: Value = listing.send().await.unwrap().json().await.unwrap();
    let names = listed["Functions"].as_array().unwrap().iter();
    let mut names = names.map(|function| function["FunctionName"].as_str().unwrap());
    let prefix = format!("{STACK}-{function}-");
    let name = names.find(|name| name.starts_with(&prefix)).unwrap();

    let invoking = emulator(
        reqwest::Method::POST,
        "lambda",
        &format!("{path}/{name}/invocations"),
    );
    let response = invoking.json(event).send().await.unwrap();
    let failed = response.headers().contains_key("X-Amz-Function-Error");
    let answer = response.text().await.unwrap();
    assert!(!failed, "{function}: {answer}");
    serde_json::from_str(&answer).unwrap()
}
