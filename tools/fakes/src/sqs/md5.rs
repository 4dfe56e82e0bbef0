//! Digests of message bodies.

use md5::{Digest as _, Md5};

/// The hexadecimal MD5 of a message's body. SQS returns it and its clients compare it.
pub fn md5(body: &str) -> String {
    hex::encode(Md5::digest(body.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_digest_that_clients_expect() {
        assert_eq!(md5(""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
