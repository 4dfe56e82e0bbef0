//! Web pages: the allowed origins, and the methods and headers that they may send.

use std::collections::BTreeSet;
use std::fs;

use serde_norway::Value;
use tests::{project_file, template_routes};

use super::{tagged, template};

/// Value of a property that is set only if pages are served (`!If` with the condition).
fn where_pages_are_served(value: &Value) -> &Value {
    let Value::Tagged(tagged) = value else {
        panic!("{value:?} is for everybody");
    };
    assert_eq!(tagged.tag, "If");
    let [condition, there, elsewhere] = tagged.value.as_sequence().unwrap().as_slice() else {
        panic!("an !If has three");
    };
    assert_eq!(condition, "ServesPages");
    assert_eq!(self::tagged(elsewhere, "Ref"), "AWS::NoValue");
    there
}

fn set(list: &Value) -> BTreeSet<&str> {
    let list = list.as_sequence().unwrap().iter();
    list.map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn pages_of_allowed_origins_may_call_every_route_and_send_what_the_page_sends() {
    let template = template();
    let cors = where_pages_are_served(&template["Resources"]["HttpApi"]["Properties"]["CorsConfiguration"]);
    assert_eq!(tagged(&cors["AllowOrigins"], "Ref"), "AllowedOrigins");
    let routes = template_routes();
    let methods: BTreeSet<&str> = routes
        .iter()
        .filter_map(|route| Some(route.split_once(' ')?.0))
        .collect();
    assert_eq!(set(&cors["AllowMethods"]), methods);
    // Authentication uses a header set by the page. Cookies are not used, so other pages cannot send the
    // credentials.
    assert!(cors["AllowCredentials"].is_null());
    let api = fs::read_to_string(project_file("clients/js/src/api.js"))
        .unwrap()
        .to_lowercase();
    assert_eq!(
        set(&cors["AllowHeaders"]),
        BTreeSet::from([
            "authorization",
            "content-type",
            "idempotency-key",
            "syncsphere-epoch"
        ])
    );
    for header in set(&cors["AllowHeaders"]) {
        assert!(api.contains(header), "the client sends no {header}");
    }
    assert_eq!(set(&cors["ExposeHeaders"]), BTreeSet::from(["retry-after"]));
    assert!(api.contains("retry-after"), "the client reads no Retry-After");
}

#[test]
fn pages_of_allowed_origins_may_put_and_get_content() {
    let template = template();
    let cors = where_pages_are_served(&template["Resources"]["Bucket"]["Properties"]["CorsConfiguration"]);
    let rules = cors["CorsRules"].as_sequence().unwrap();
    assert_eq!(rules.len(), 1);
    let rule = &rules[0];
    assert_eq!(tagged(&rule["AllowedOrigins"], "Ref"), "AllowedOrigins");
    assert_eq!(set(&rule["AllowedMethods"]), BTreeSet::from(["GET", "PUT"]));
    // Headers that `uploads` signs for a PUT, and headers for resuming a download; never `*`.
    assert_eq!(
        set(&rule["AllowedHeaders"]),
        BTreeSet::from(["content-type", "if-none-match", "range", "x-amz-checksum-sha256"])
    );
}
