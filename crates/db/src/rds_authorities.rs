//! Root certificates that RDS endpoints must chain to, and the AWS regions that have them.
//!
//! Public root stores do not contain them (Amazon RDS User Guide, "Using SSL/TLS to encrypt a connection to a
//! DB instance or cluster"). The bundle is compiled in and is the only list of these regions;
//! `tools/rds_authorities.py` renews it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::error::{BoxError, Error};

const BUNDLE: &[u8] = include_bytes!("../amazon-rds.pem");

/// The subject of each certificate contains "Amazon RDS REGION Root CA KEY GENERATION".
const BEFORE_REGION: &str = "Amazon RDS ";
const AFTER_REGION: &str = " Root CA ";

/// Parsed once per process: parsing takes longer than connecting.
static STORE: LazyLock<Result<RootCertStore, String>> =
    LazyLock::new(|| read().map_err(|error| error.to_string()));

static REGIONS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let authorities = STORE.iter().flat_map(|store| &store.roots);
    authorities
        .filter_map(|authority| region_of(&authority.subject))
        .collect()
});

/// The regions with a root certificate, such as `eu-central-1`.
pub fn regions() -> impl Iterator<Item = &'static str> {
    REGIONS.iter().map(String::as_str)
}

/// Whether a region has a root certificate, so that its RDS endpoints can be verified.
pub fn has_region(region: &str) -> bool {
    REGIONS.contains(region)
}

/// The root certificates of all regions.
pub(crate) fn store() -> Result<RootCertStore, Error> {
    STORE.clone().map_err(|reason| Error::TrustRoots(reason.into()))
}

fn read() -> Result<RootCertStore, BoxError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(BUNDLE) {
        store.add(certificate?)?;
    }
    Ok(store)
}

/// The region in a certificate's subject. The subject is DER, which contains strings as plain bytes.
fn region_of(subject: &[u8]) -> Option<String> {
    let subject = String::from_utf8_lossy(subject);
    let (_, from_region) = subject.split_once(BEFORE_REGION)?;
    let (region, _) = from_region.split_once(AFTER_REGION)?;
    Some(region.to_owned())
}

/// The region in the host name of an RDS endpoint: `NAME.ID.eu-central-1.rds.amazonaws.com`, or in China
/// `NAME.ID.rds.cn-north-1.amazonaws.com.cn`. `None` for other host names.
pub(crate) fn region_of_endpoint(host: &str) -> Option<&str> {
    if let Some(host) = host.strip_suffix(".rds.amazonaws.com") {
        return host.rsplit('.').next();
    }
    let (rest, region) = host.strip_suffix(".amazonaws.com.cn")?.rsplit_once('.')?;
    (rest.rsplit('.').next() == Some("rds")).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_authority_is_of_a_region() {
        let store = store().unwrap();
        let named = store
            .roots
            .iter()
            .filter_map(|authority| region_of(&authority.subject));
        assert_eq!(named.count(), store.len());
        assert!(!store.is_empty());
    }

    #[test]
    fn regions_are_found_by_their_whole_name() {
        for region in [
            "us-east-1",
            "eu-central-1",
            "il-central-1",
            "mx-central-1",
            "ap-southeast-7",
        ] {
            assert!(has_region(region), "{region}");
        }
        for other in ["", "us-east", "us-gov-west-1", "cn-north-1", "xx-nowhere-1"] {
            assert!(!has_region(other), "{other}");
        }
        assert!(regions().all(has_region));
    }

    #[test]
    fn the_region_is_in_an_endpoints_name() {
        for (host, region) in [
            ("name.abc.eu-central-1.rds.amazonaws.com", Some("eu-central-1")),
            ("name.abc.rds.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            (
                "name.proxy-abc.us-gov-west-1.rds.amazonaws.com",
                Some("us-gov-west-1"),
            ),
            ("rds.amazonaws.com", None),
            ("db.example", None),
            ("bucket.s3.cn-north-1.amazonaws.com.cn", None),
            ("", None),
        ] {
            assert_eq!(region_of_endpoint(host), region, "{host}");
        }
    }
}
