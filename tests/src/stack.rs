//! The deployed stack.

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

/// Tests share the stack; one that keeps the emulator busy for seconds has it alone.
static USE: RwLock<()> = RwLock::const_new(());

/// What a test holds while it shares the stack with others.
pub type Shared = RwLockReadGuard<'static, ()>;

/// Waits until nobody has the stack alone.
pub async fn share() -> Shared {
    USE.read().await
}

/// Waits until nobody uses the stack.
pub async fn alone() -> RwLockWriteGuard<'static, ()> {
    USE.write().await
}

/// The stack that `cargo xtask test` deployed.
pub fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        let file = env::var_os("SYNCSPHERE_STACK").map(PathBuf::from);
        let file = file.expect("these tests need the local stack: run `cargo xtask test`");
        let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_slice(&text).unwrap()
    })
}

/// How clients of the emulator are configured.
pub fn aws() -> aws_types::SdkConfig {
    ::stack::emulator::aws_config(&stack().aws_endpoint).unwrap()
}

/// A user of the stack whom no other test knows, and a token of theirs.
pub async fn new_user() -> (String, Token) {
    let user = format!("user-{}", platform::ids::new_id());
    stack().create_user(&user).await.unwrap();
    let session = stack().sign_in(&user).await.unwrap();
    let token = session.token().await.unwrap();
    (user, token)
}

/// The `sub` of a token.
pub fn subject(token: &Token) -> String {
    let claims = token.as_str().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

/// Waits for a message with this body in the stack's dead-letter queue.
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

/// An HTTP client with no manners of its own.
pub fn raw_http() -> reqwest::Client {
    client::install_crypto_provider();
    reqwest::Client::new()
}

/// A request to the emulator for which there is no client here, as the account's owner.
pub fn emulator(method: reqwest::Method, service: &str, path: &str) -> reqwest::RequestBuilder {
    ::stack::emulator::request(&stack().aws_endpoint, method, service, path).unwrap()
}

/// Invokes a function of the stack, by its logical id, and returns its answer. A function that fails is a failure.
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
