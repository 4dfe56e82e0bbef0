//! The client's watcher and its sessions, against the deployed stack.

use std::collections::BTreeMap;
use std::time::Duration;

use ::stack::PASSWORD;
use client::{Client, Session, SignIn, Update, UserPool, Watcher};
use model::{Cursor, Epoch, SpaceId};
use ring::hmac;
use tests::{Proxy, new_user, stack};
use tokio::time::timeout;

/// Notification latency that the product promises.
const PROMISED: Duration = Duration::from_secs(20);

async fn next(watcher: &mut Watcher) -> Update {
    let next = timeout(PROMISED, watcher.next()).await.expect("nothing came");
    next.unwrap().expect("it has ended")
}

/// The epoch, which a watcher reports first.
async fn epoch(watcher: &mut Watcher) -> Epoch {
    match next(watcher).await {
        Update::Epoch(epoch) => epoch,
        other => panic!("{other:?}"),
    }
}

/// Space, cursor and path of the next change.
async fn change(watcher: &mut Watcher) -> (SpaceId, Cursor, String) {
    loop {
        if let Update::Change(event) = next(watcher).await {
            let path = event.file().unwrap().path.to_string();
            return (event.space_id, event.sequence.into(), path);
        }
    }
}

async fn upload(device: &Client, path: &str) {
    device
        .upload(None, path.parse().unwrap(), path.as_bytes())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_watcher_hears_what_is_committed_and_later_goes_on_from_its_cursor() {
    let (_, token) = new_user().await;
    let proxy = Proxy::start().await;
    let (one, other) = (proxy.device(token.clone()), proxy.device(token));
    let mut watcher = Watcher::start(other.clone(), None, BTreeMap::new());
    let known = epoch(&mut watcher).await;
    assert_eq!(next(&mut watcher).await, Update::Live);

    // The first upload creates the personal space.
    for path in ["/a", "/b"] {
        upload(&one, path).await;
    }
    let (space_id, _, first) = change(&mut watcher).await;
    let (_, cursor, second) = change(&mut watcher).await;
    assert_eq!((first.as_str(), second.as_str()), ("/a", "/b"));
    drop(watcher);

    upload(&one, "/missed").await;
    let mut watcher = Watcher::start(other, Some(known), [(space_id, cursor)].into());
    assert_eq!(epoch(&mut watcher).await, known);
    assert_eq!(change(&mut watcher).await.2, "/missed");
    assert_eq!(next(&mut watcher).await, Update::Live);
    upload(&one, "/live").await;
    assert_eq!(change(&mut watcher).await.2, "/live");
}

fn pool() -> UserPool {
    UserPool {
        endpoint: stack().aws_endpoint.clone(),
        client_id: stack().outputs.user_pool_client_id.clone(),
    }
}

/// Current one-time code (TOTP, RFC 6238) of an authenticator app with this key.
fn code(key: &str) -> String {
    let bits = key.chars().filter(|c| *c != '=').flat_map(|c| {
        let value = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap();
        (0..5).rev().map(move |bit| u8::from(value & (1 << bit) != 0))
    });
    let bits: Vec<u8> = bits.collect();
    let secret: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit))
        .collect();
    let step = platform::Clock::system().now().unix_timestamp() / 30;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let offset = usize::from(tag.as_ref()[19] & 15);
    let number = u32::from_be_bytes(tag.as_ref()[offset..offset + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[tokio::test]
async fn an_account_that_an_authenticator_app_protects_is_asked_for_its_code() {
    let (user, _) = new_user().await;
    let session = stack().sign_in(&user).await.unwrap();
    let authenticator = session.authenticator().await.unwrap();
    let key = authenticator.key().to_owned();
    authenticator.confirm(&code(&key)).await.unwrap();

    let challenge = async || match Session::begin(pool(), &user, PASSWORD).await.unwrap() {
        SignIn::Code(challenge) => challenge,
        other => panic!("{other:?}"),
    };
    let wrong = if code(&key) == "000000" {
        "000001"
    } else {
        "000000"
    };
    let refused = challenge().await.answer(wrong).await.unwrap_err();
    assert!(
        matches!(refused, client::Error::Unauthenticated(_)),
        "{refused:?}"
    );
    let SignIn::Done(session) = challenge().await.answer(&code(&key)).await.unwrap() else {
        panic!("not signed in")
    };
    stack().device(session).unwrap().all_spaces().await.unwrap();
}

#[tokio::test]
async fn a_session_goes_on_later_with_its_refresh_token() {
    let (user, _) = new_user().await;
    let session = stack().sign_in(&user).await.unwrap();
    let refresh = session.refresh_token().unwrap().clone();
    let pool = pool();
    let resumed = Session::resume(pool.clone(), refresh, None);
    let device = stack().device(resumed).unwrap();
    // The personal space.
    assert_eq!(device.all_spaces().await.unwrap().len(), 1);

    let forged = Session::resume(pool, "forged".to_owned().into(), None);
    let error = stack().device(forged).unwrap().all_spaces().await.unwrap_err();
    assert!(matches!(error, client::Error::Unauthenticated(_)), "{error:?}");
}
