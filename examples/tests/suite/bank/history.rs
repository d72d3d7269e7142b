//! The history of an account, page by page.

use serde_json::{Value, json};

use super::client::server;

#[tokio::test]
async fn pages_follow_each_other_without_gaps() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    for amount in 2..=7 {
        api.deposit(&ann, amount).send().await.expect(200);
    }
    for (limit, lengths) in
        [(1, &[1; 7][..]), (2, &[2, 2, 2, 1]), (3, &[3, 3, 1]), (6, &[6, 1]), (7, &[7]), (200, &[7])]
    {
        let (mut path, mut versions, mut found) =
            (format!("{ann}/history?limit={limit}"), Vec::new(), Vec::new());
        loop {
            let page = api.get(&path).send().await.expect(200);
            let events = page["events"].as_array().expect("an array");
            found.push(events.len());
            versions.extend(events.iter().map(|event| event["version"].as_u64().expect("a version")));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("{ann}/history?limit={limit}&cursor={next}");
        }
        assert_eq!((&found[..], &versions[..]), (lengths, &[1, 2, 3, 4, 5, 6, 7][..]), "limit {limit}");
    }
}

#[tokio::test]
async fn a_page_has_fifty_events_unless_told_otherwise() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 0).await;
    for _ in 0..50 {
        api.deposit(&ann, 1).send().await.expect(200);
    }
    let first = api.get(&format!("{ann}/history")).send().await.expect(200);
    assert_eq!(first["events"].as_array().map(Vec::len), Some(50));
    let next = first["next"].as_str().expect("a cursor");
    let last = api.get(&format!("{ann}/history?cursor={next}")).send().await.expect(200);
    assert_eq!((&last["events"][0]["version"], &last["next"]), (&json!(51), &Value::Null));

    // A cursor stays valid when the history grows.
    api.deposit(&ann, 1).send().await.expect(200);
    let longer = api.get(&format!("{ann}/history?cursor={next}")).send().await.expect(200);
    assert_eq!(longer["events"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn queries_and_cursors_are_validated() {
    let api = server().await.api;
    let ann = api.account("Ann", "DE100001", 1).await;
    let bob = api.account("Bob", "DE100002", 1).await;
    let page = api.get(&format!("{ann}/history?limit=1")).send().await.expect(200);
    let cursor = page["next"].as_str().expect("a cursor").to_owned();
    let other = format!("{}2{}", &cursor[..15], &cursor[16..]);
    for (account, query, field) in [
        (&ann, "limit=0", "limit"),
        (&ann, "limit=201", "limit"),
        (&ann, "limit=-1", "limit"),
        (&ann, "limit=", "limit"),
        (&ann, "limit=1&limit=1", "query"),
        (&ann, "page=2", "query"),
        (&ann, "limit=%FF", "limit"),
        (&ann, "cursor=", "cursor"),
        (&ann, "cursor=1", "cursor"),
        (&ann, "cursor=%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4%C3%A4", "cursor"),
        (&ann, &format!("cursor={cursor}0"), "cursor"),
        (&ann, &format!("cursor={}", cursor.to_uppercase()), "cursor"),
        (&ann, &format!("cursor={other}"), "cursor"),
        (&bob, &format!("cursor={cursor}"), "cursor"),
        (&ann, &format!("cursor={cursor}&cursor={cursor}"), "query"),
    ] {
        let answer = api.get(&format!("{account}/history?{query}")).send().await;
        assert_eq!(answer.expect_problem(400, "malformed-request")["field"], field, "{query}");
    }
}
