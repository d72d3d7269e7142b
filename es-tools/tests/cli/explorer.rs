//! The explorer: the router in this process, and `es explore`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use aws_sdk_dynamodb::Client;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use es_core::documents::{ChangeSet, DocumentKey, Documents, ExpectedDocument};
use es_core::event::EventData;
use es_core::feed::{EventFilter, Feed, Slices};
use es_core::prelude::*;
use es_core::projection::{ProjectError, ProjectorError};
use es_core::read_model::Traces;
use es_core::testing::Faults;
use es_core::uuid::Uuid;
use es_core::{EventId, RetryPolicy, StreamId};
use es_dynamo::embedded::Engine;
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, Reconciler};
use es_tools::{Application, Explorer};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use crate::support::Place;

/// A text that must not appear unless payloads are shown.
const SECRET: &str = "planted-secret";

#[event]
pub(crate) struct Opened {
    owner: String,
}

/// Version 1 has euros.
#[event(name = "Paid")]
pub(crate) struct PaidV1 {
    euros: u64,
}

#[event(name = "Paid", version = 2, previous = PaidV1)]
pub(crate) struct Paid {
    cents: u64,
}

impl From<PaidV1> for Paid {
    fn from(old: PaidV1) -> Self {
        Self { cents: old.euros * 100 }
    }
}

#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[aggregate(name = "wallet", id = String, events(Opened, Paid))]
pub(crate) struct Wallet {
    owner: String,
    cents: u64,
}

pub(crate) struct Open(&'static str);
pub(crate) struct Pay(u64);

#[handlers]
impl Wallet {
    #[apply]
    fn opened(&mut self, event: &Opened) {
        self.owner.clone_from(&event.owner);
    }

    #[apply]
    fn paid(&mut self, event: &Paid) {
        self.cents += event.cents;
    }

    #[handle]
    fn open(&self, command: &Open) -> Opened {
        Opened { owner: command.0.to_owned() }
    }

    #[handle]
    fn pay(&self, command: &Pay) -> Paid {
        Paid { cents: command.0 }
    }
}

/// Fails at payments of 13 cents.
#[derive(Clone, Projection)]
#[projection(name = "receipts", events(Wallet(Paid)))]
struct Receipts;

#[handlers]
impl Receipts {
    #[project]
    async fn paid(&mut self, event: &Paid) -> Result<(), BoxError> {
        if event.cents == 13 { Err("there is no such receipt".into()) } else { Ok(()) }
    }
}

fn application() -> Application {
    Application::new("bank").aggregate::<Wallet>().projection(|_| Receipts)
}

/// Records the events of two wallets, one of which follows from the other, and runs the projections.
async fn story(store: &DynamoStore) -> Result<(), BoxError> {
    let wallets: Repository<Wallet> = Repository::new(store.clone());
    let request = Metadata::new().with_actor("ann").with_correlation("request-7").with_entry("note", SECRET);
    wallets.with_metadata(request.clone()).execute("ann", Open(SECRET)).await?;
    let paid = wallets.with_metadata(request.clone()).once("payment-1").execute("ann", Pay(250)).await?;
    let cause = EventId::new(paid.commit.ok_or("no commit")?, paid.version);
    wallets.with_metadata(request.following(cause)).execute("bob <b>", Pay(13)).await?;
    let claim = async |_: &Wallet, _: &Context<Wallet>| {
        Ok::<_, std::convert::Infallible>(Events::from(Paid { cents: 1 }).claim("email", "ann@example.com"))
    };
    wallets.decide("ann", claim).await?;
    Reconciler::builder(store).build().run().await?;
    Projector::new(store.clone(), Traces::new(store)).run_until_caught_up().await?;
    let receipts = Projector::builder(store.clone(), Receipts).retry(RetryPolicy::never());
    let stopped = receipts.restart(RetryPolicy::never()).build().run_until_caught_up().await;
    assert!(stopped.is_err(), "it stops at the payment of 13 cents");
    Ok(())
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

async fn send(router: &Router, request: Request<Body>) -> Reply {
    let response = router.clone().oneshot(request).await.expect("answers");
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.expect("a body").to_bytes();
    let policy = parts.headers.get(header::CONTENT_SECURITY_POLICY).expect("a policy on every response");
    assert!(policy.to_str().is_ok_and(|policy| policy.starts_with("default-src 'none'")));
    assert_eq!(parts.headers[header::CACHE_CONTROL], "no-store");
    let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Reply { status: parts.status, headers: parts.headers, text }
}

async fn get(router: &Router, path: &str) -> Reply {
    send(router, Request::get(path).body(Body::empty()).expect("a request")).await
}

pub(crate) async fn shown(router: &Router, path: &str) -> String {
    let reply = get(router, path).await;
    assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
    reply.text
}

async fn post(router: &Router, path: &str, form: &'static str) -> Reply {
    let request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    send(router, request.body(Body::from(form)).expect("a request")).await
}

/// Returns the addresses of all links of a page.
fn links(text: &str) -> impl Iterator<Item = String> {
    text.split(" href=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.replace("&amp;", "&")))
}

/// Opens all pages that links lead to, and returns their addresses and texts.
async fn crawled(router: &Router, start: &str) -> Vec<(String, String)> {
    let (mut open, mut seen) = (vec![start.to_owned()], BTreeSet::new());
    let mut pages = Vec::new();
    while let Some(path) = open.pop() {
        let path = path.split('#').next().unwrap_or_default().to_owned();
        if path.is_empty() || !seen.insert(path.clone()) {
            continue;
        }
        let text = shown(router, &path).await;
        open.extend(links(&text));
        pages.push((path, text));
    }
    pages
}

#[tokio::test]
async fn pages_show_streams_traces_the_feed_and_projections() {
    let store = DynamoStore::embedded().await.expect("opens");
    story(&store).await.expect("recorded");
    let slices = store.slices().await.expect("reads");
    let router = Explorer::new(store, application()).show_payloads().into_router();

    let start = shown(&router, "/").await;
    for text in ["receipts", "$traces", "stopped", "wallet#ann", "ann"] {
        assert!(start.contains(text), "{text}: {start}");
    }
    let stream = shown(&router, "/streams/wallet%23ann").await;
    for text in ["Version 3.", "Opened", "Paid v2", "write units"] {
        assert!(stream.contains(text), "{text}: {stream}");
    }
    let event = shown(&router, "/streams/wallet%23ann/2").await;
    for text in ["request-7", "&quot;cents&quot;: 250", "<del>0</del>", "<ins>250</ins>", SECRET] {
        assert!(event.contains(text), "{text}: {event}");
    }
    // The page of the third event shows only what it has changed.
    let third = shown(&router, "/streams/wallet%23ann/3").await;
    assert!(third.contains("<del>250</del>") && !third.contains("<del>planted"), "{third}");

    let trace = shown(&router, "/traces/request-7").await;
    let places = ["wallet#ann", "Opened", "Paid", "<ol><li>", "wallet#bob &lt;b&gt;"];
    let found: Vec<_> =
        places.iter().map(|text| trace.find(text).unwrap_or_else(|| panic!("{text}: {trace}"))).collect();
    assert!(found.is_sorted(), "the payment of bob is below that of ann: {trace}");

    let receipts = shown(&router, "/consumers/receipts").await;
    assert!(receipts.contains("there is no such receipt"), "{receipts}");
    assert!(!receipts.contains("<form class=\"inline\""), "no actions: {receipts}");
    let slice = slices.of(&StreamId::new("wallet", "ann").expect("valid"));
    assert!(shown(&router, &format!("/feed?slice={slice}")).await.contains("wallet#ann"));
}

/// Parts of a stream and pages of events may start inside a commit.
#[tokio::test]
async fn every_event_of_a_commit_has_a_page() {
    let store = DynamoStore::embedded().await.expect("opens");
    let wallets: Repository<Wallet> = Repository::new(store.clone());
    wallets.execute("ann", Open("ann")).await.expect("accepted");
    let three = async |_: &Wallet, _: &Context<Wallet>| {
        Ok::<_, std::convert::Infallible>(Events::from([1, 1, 1].map(|cents| Paid { cents })))
    };
    for _ in 0..40 {
        wallets.decide("ann", three).await.expect("accepted"); // ends at version 121
    }
    let router = Explorer::new(store, application()).show_payloads().into_router();
    for part in ["", "?from=1", "?from=3", "?from=4", "?from=121"] {
        let page = shown(&router, &format!("/streams/wallet%23ann{part}")).await;
        assert!(page.contains("Version 121."), "{part}: {page}");
    }
    for version in 2..=5 {
        let page = shown(&router, &format!("/streams/wallet%23ann/{version}")).await;
        let change = format!("<del>{}</del>", version - 2);
        assert!(page.contains(&change), "{version}: {page}");
    }
}

/// A [`Wallet`] whose code fails at payments of 13 cents.
#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[aggregate(name = "wallet", id = String, events(Opened, Paid))]
struct FragileWallet;

#[handlers]
impl FragileWallet {
    #[apply]
    fn opened(&mut self, _: &Opened) {}

    #[apply]
    fn paid(&mut self, event: &Paid) {
        assert!(event.cents != 13, "a bug in the wallet");
    }
}

#[tokio::test]
async fn a_panic_of_an_aggregate_is_shown_on_the_page() {
    let store = DynamoStore::embedded().await.expect("opens");
    let wallets: Repository<Wallet> = Repository::new(store.clone());
    wallets.execute("ann", Open("ann")).await.expect("accepted");
    wallets.execute("ann", Pay(13)).await.expect("accepted");
    let application = Application::new("bank").aggregate::<FragileWallet>();
    let router = Explorer::new(store, application).show_payloads().into_router();
    let page = shown(&router, "/streams/wallet%23ann/2").await;
    assert!(page.contains("&quot;cents&quot;: 13"), "{page}");
    assert!(page.contains("the code of the aggregate `wallet` panicked: a bug in the wallet"), "{page}");
}

#[tokio::test]
async fn a_search_finds_ids_claims_keys_and_correlations() {
    let store = DynamoStore::embedded().await.expect("opens");
    story(&store).await.expect("recorded");
    let router = Explorer::new(store, application()).into_router();
    for (query, to) in [
        ("kind=stream&text=wallet%23ann", "/streams/wallet%23ann"),
        ("kind=stream&text=+ann+", "/streams/wallet%23ann"),
        ("kind=claim&text=email%3Dann@example.com", "/streams/wallet%23ann"),
        ("kind=trace&text=request-7", "/traces/request-7"),
        ("kind=key&text=wallet%23ann+payment-1", "/keys/payment-1?stream=wallet%23ann"),
    ] {
        let reply = get(&router, &format!("/search?{query}")).await;
        assert!(reply.status.is_redirection(), "{query}: {}", reply.text);
        assert_eq!(reply.headers[header::LOCATION], *to, "{query}");
        shown(&router, to).await;
    }
    for (query, status, text) in [
        ("kind=stream&text=unknown", 404, "No aggregate has the id unknown."),
        ("kind=claim&text=email", 400, "email=ann@example.com"),
        ("kind=claim&text=email%3Dbob", 404, "No stream holds the claim email"),
    ] {
        let reply = get(&router, &format!("/search?{query}")).await;
        assert_eq!(reply.status.as_u16(), status, "{query}");
        assert!(reply.text.contains(text), "{query}: {}", reply.text);
    }
    for (path, status) in [
        ("/streams/wallet%23nobody", 404),
        ("/streams/wallet", 400),
        ("/streams/wallet%23ann/99", 404),
        ("/streams/wallet%23ann/x", 400),
        ("/traces/unknown", 404),
        ("/keys/unknown", 404),
        ("/feed?slice=99", 404),
        ("/consumers/unknown", 404),
        ("/unknown", 404),
    ] {
        assert_eq!(get(&router, path).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn all_links_work_wherever_the_router_is_mounted() {
    let store = DynamoStore::embedded().await.expect("opens");
    story(&store).await.expect("recorded");
    let explorer = || Explorer::new(store.clone(), application());
    for (base, router) in [
        ("", explorer().into_router()),
        ("/admin/explorer", Router::new().nest("/admin/explorer", explorer().show_payloads().into_router())),
        ("/x", Router::new().nest_service("/x", explorer().allow_actions().into_router())),
    ] {
        let pages = crawled(&router, if base.is_empty() { "/" } else { base }).await;
        assert!(pages.len() >= 15, "{} pages", pages.len());
        for (path, text) in &pages {
            assert!(path.starts_with(base), "{path}");
            if path.ends_with(".css") {
                continue;
            }
            assert!(text.contains("<html lang=\"en\">") && text.contains("<h1>"), "{path}");
            assert!(
                !text.contains("<script") && !text.contains(" style="),
                "{path}: forbidden by the policy"
            );
            assert!(!text.contains("<b>"), "{path}: not escaped");
        }
    }
}

#[tokio::test]
async fn the_start_page_is_found_with_and_without_a_final_slash() {
    let store = DynamoStore::embedded().await.expect("opens");
    let explorer = Explorer::new(store, application()).token("t");
    let router: Router = Router::new().nest_service("/x", explorer.into_router());
    for path in ["/x", "/x/"] {
        let request = Request::get(path).header(header::AUTHORIZATION, "Bearer t");
        let page = send(&router, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert!(page.text.contains(r#"href="/x/style.css""#), "{path}");
        let signed_in = get(&router, &format!("{path}?token=t")).await;
        assert_eq!(signed_in.headers[header::LOCATION], "/x");
    }
}

#[tokio::test]
async fn an_empty_token_opens_nothing() {
    let store = DynamoStore::embedded().await.expect("opens");
    let router = Explorer::new(store, application()).token("").into_router();
    for (path, authorization) in [("/?token=", "Bearer"), ("/", "Bearer "), ("/", "Bearer t")] {
        let request = Request::get(path).header(header::AUTHORIZATION, authorization);
        let page = send(&router, request.body(Body::empty()).expect("a request")).await;
        assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn payloads_are_hidden_by_default() {
    let store = DynamoStore::embedded().await.expect("opens");
    story(&store).await.expect("recorded");
    let router = Explorer::new(store.clone(), application()).into_router();
    for (path, text) in crawled(&router, "/").await {
        assert!(!text.contains(SECRET), "{path}: {text}");
    }
    let router = Explorer::new(store, application()).show_payloads().into_router();
    let pages = crawled(&router, "/").await;
    assert!(pages.iter().any(|(_, text)| text.contains(SECRET)), "the check can fail");
}

#[tokio::test]
async fn actions_are_off_by_default_and_only_for_own_pages() {
    let store = DynamoStore::embedded().await.expect("opens");
    story(&store).await.expect("recorded");
    let receipts = Projector::new(store.clone(), Receipts);
    let router = Explorer::new(store.clone(), application()).into_router();
    assert_eq!(post(&router, "/consumers/receipts/pause", "").await.status, StatusCode::FORBIDDEN);
    assert!(!receipts.progress().await.expect("reads").paused);

    let router = Explorer::new(store.clone(), application()).allow_actions().into_router();
    let other = Request::post("/consumers/receipts/pause").header("sec-fetch-site", "cross-site");
    let other = other.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let refused = send(&router, other.body(Body::empty()).expect("a request")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(!receipts.progress().await.expect("reads").paused);

    let done = async |action: &str, form: &'static str| {
        let reply = post(&router, &format!("/consumers/receipts/{action}"), form).await;
        assert_eq!(
            reply.headers.get(header::LOCATION).map(HeaderValue::as_bytes),
            Some(&b"/consumers/receipts"[..]),
            "{action}: {}",
            reply.text
        );
    };
    done("pause", "").await;
    assert!(receipts.progress().await.expect("reads").paused);
    done("resume", "").await;
    assert!(!receipts.progress().await.expect("reads").paused);

    let slices = store.slices().await.expect("reads");
    let slice = slices.of(&StreamId::new("wallet", "bob <b>").expect("valid"));
    let form: &'static str = Box::leak(format!("slice={slice}").into_boxed_str());
    let unconfirmed = post(&router, "/consumers/receipts/skip", form).await;
    assert_eq!(unconfirmed.status, StatusCode::BAD_REQUEST, "{}", unconfirmed.text);
    done("park", form).await;
    run(&store).await.expect("continues after the parked event");
    let page = shown(&router, "/consumers/receipts").await;
    assert!(page.contains("Replay all") && page.contains("Discard"), "{page}");
    let parked = page
        .split("name=\"parked\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a form");
    let form: &'static str = Box::leak(format!("parked={parked}&confirmed=yes").into_boxed_str());
    done("discard", form).await;
    assert!(receipts.parked().await.expect("reads").is_empty());
    assert_eq!(post(&router, "/consumers/receipts/unknown", "").await.status, StatusCode::NOT_FOUND);
}

async fn run(store: &DynamoStore) -> Result<(), ProjectorError> {
    let receipts = Projector::builder(store.clone(), Receipts).retry(RetryPolicy::never());
    receipts.restart(RetryPolicy::never()).build().run_until_caught_up().await.map_err(|error| match error {
        es_core::projection::WaitError::Projector(error) => error,
        other => panic!("{other}"),
    })
}

/// Fails at every payment.
#[derive(Clone, Projection)]
#[projection(name = "refunds", events(Wallet(Paid)))]
struct Refunds;

#[handlers]
impl Refunds {
    #[project]
    async fn paid(&mut self, _: &Paid, _: &EventContext) -> Result<(), BoxError> {
        Err("refunds are closed".into())
    }
}

/// Records a payment in each of these wallets, all of which the projection parks.
async fn pay_and_park(store: &DynamoStore, wallets: std::ops::Range<usize>) {
    let repository: Repository<Wallet> = Repository::new(store.clone());
    for wallet in wallets {
        repository.execute(&format!("w{wallet}"), Pay(1)).await.expect("accepted");
    }
    Reconciler::builder(store).build().run().await.expect("runs");
    let builder = Projector::builder(store.clone(), Refunds).retry(RetryPolicy::never());
    let builder = builder.on_failure(es_core::projection::OnFailure::Park);
    builder.build().run_until_caught_up().await.expect("parks everything");
}

/// Returns a store with this number of slices, and its count of requests.
async fn counted(slices: u32) -> (DynamoStore, Faults) {
    let (engine, faults) = (Engine::in_memory().expect("starts"), Faults::seeded(0));
    let connector = FaultyConnector::new(engine.connector(), faults.clone());
    let client = Client::from_conf(engine.config_through(connector.into_shared()).build());
    let slices = Slices::new(slices).expect("allowed");
    let store = DynamoStore::builder().client(client).slices(slices).build().expect("valid");
    store.create_table().await.expect("creates the table");
    (store, faults)
}

#[tokio::test]
async fn the_start_page_reads_each_projection_once_and_not_too_many() {
    // With more slices than the page shows, it does not show the lag either.
    for (slices, is_lag_shown) in [(4, true), (64, false)] {
        let (store, faults) = counted(slices).await;
        let router = Explorer::new(store.clone(), application()).into_router();
        let register = async |numbers: std::ops::Range<u32>| {
            for number in numbers {
                let key = DocumentKey::new("projections", format!("p{number:02}"));
                let body = r#"{"process":false,"read_models":[]}"#;
                let set = ChangeSet::new(Uuid::new_v4()).put(key, ExpectedDocument::Any, body);
                store.change(&set).await.expect("registers");
            }
        };
        let visit = async || {
            let before = faults.requests();
            let page = shown(&router, "/").await;
            (faults.requests() - before, page)
        };
        register(0..10).await;
        let (ten, page) = visit().await;
        assert_eq!(page.contains("Open a projection to see its lag"), !is_lag_shown, "{slices} slices");
        register(10..20).await;
        let (twenty, _) = visit().await;
        assert_eq!(twenty - ten, 10, "{slices} slices");
        register(20..99).await;
        let (many, page) = visit().await;
        assert_eq!(many - ten, 40, "{slices} slices");
        assert!(page.contains("1 to 50 of 99") && page.contains("p49") && !page.contains("p50"));
    }
}

#[tokio::test]
async fn pages_are_bounded_however_many_streams_and_parked_events_there_are() {
    let (store, faults) = counted(SLICES).await;
    let router = Explorer::new(store.clone(), application()).into_router();
    // Returns the number of requests, and the size of the page.
    let visit = async |path: &str| {
        let before = faults.requests();
        let page = shown(&router, path).await;
        (faults.requests() - before, page.len())
    };
    let paths =
        ["/", "/feed", "/indexers", "/consumers/refunds", "/streams/wallet%23w1", "/streams/wallet%23w1/1"];

    pay_and_park(&store, 0..120).await;
    let mut few = Vec::new();
    for path in paths {
        few.push(visit(path).await);
    }
    pay_and_park(&store, 120..500).await;
    for (path, (requests, bytes)) in paths.into_iter().zip(few) {
        let (more_requests, more_bytes) = visit(path).await;
        assert!(bytes.max(more_bytes) <= 64 << 10, "{path}: {bytes}, then {more_bytes} bytes");
        // Of each slice, the page reads the end and, at most, one page with its commits; of each projection, its state.
        let limit = 8 + u64::from(SLICES) * 6;
        assert!(requests.max(more_requests) <= limit, "{path}: {requests}, then {more_requests} requests");
    }
}

/// The number of slices of a feed with many.
const SLICES: u32 = 16;

/// A projection of no events, with any name.
#[derive(Clone)]
struct Idle(String);

impl Projection for Idle {
    const NAME: &'static str = "idle";

    fn name(&self) -> &str {
        &self.0
    }

    fn filter(&self) -> EventFilter {
        EventFilter::none()
    }

    async fn handle(&mut self, _: &EventData, _: &EventContext) -> Result<(), ProjectError> {
        Ok(())
    }
}

#[tokio::test]
async fn all_projections_are_listed_with_their_states_on_pages_of_fifty() {
    let store = DynamoStore::embedded().await.expect("opens");
    let name = |number: u32| format!("projection-{number:03}");
    for number in 0..120 {
        let projector = Projector::new(store.clone(), Idle(name(number)));
        projector.run_until_caught_up().await.expect("registers itself");
    }
    let explorer = Explorer::new(store, application()).into_router();
    let router = Router::new().nest_service("/x", explorer);
    let mut path = Some("/x/".to_owned());
    let (mut pages, mut listed) = (0, Vec::new());
    while let Some(next) = path {
        let page = shown(&router, &next).await;
        let rows = (0..120).map(name).filter(|name| page.contains(&format!("/x/consumers/{name}\"")));
        let rows: Vec<_> = rows.collect();
        assert_eq!(page.matches(">ok</span>").count(), rows.len(), "each has a state: {page}");
        assert!(page.contains(&format!("{} to {} of 120", listed.len() + 1, listed.len() + rows.len())));
        assert_eq!(page.contains("rel=\"prev\""), pages > 0);
        listed.extend(rows);
        pages += 1;
        let link = page.split_once("\" rel=\"next\"").and_then(|(before, _)| before.rsplit_once("href=\""));
        path = link.map(|(_, address)| address.to_owned());
    }
    assert_eq!((pages, listed), (3, (0..120).map(name).collect()));
    let late = shown(&router, "/x/?consumers=1000").await;
    assert!(late.contains("101 to 120 of 120"), "{late}");
}

#[tokio::test]
async fn a_token_is_required_if_one_is_set() {
    let store = DynamoStore::embedded().await.expect("opens");
    let router = Router::new().nest("/x", Explorer::new(store, application()).token("a b&c").into_router());
    for path in ["/x", "/x/feed", "/x?token=wrong", "/x/unknown", "/x/consumers/receipts"] {
        assert_eq!(get(&router, path).await.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(post(&router, "/x/consumers/receipts/pause", "").await.status, StatusCode::UNAUTHORIZED);
    let signed_in = get(&router, "/x/feed?token=a+b%26c").await;
    assert_eq!(signed_in.headers[header::LOCATION], "/x/feed");
    let cookie = signed_in.headers[header::SET_COOKIE].to_str().expect("a text").to_owned();
    assert!(cookie.ends_with("; Path=/x; HttpOnly; SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().expect("a value").to_owned();
    for (name, value) in [(header::COOKIE, cookie.as_str()), (header::AUTHORIZATION, "Bearer a b&c")] {
        let request = Request::get("/x/feed").header(name, value).body(Body::empty()).expect("a request");
        assert_eq!(send(&router, request).await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn explore_serves_the_pages_until_it_is_interrupted() {
    let place = Place::new("explore");
    story(&place.store().await).await.expect("recorded");
    let file = place.path("events.db");
    let mut child = Command::new(env!("CARGO_BIN_EXE_es"))
        .args([
            "--file",
            file.to_str().expect("UTF-8"),
            "explore",
            "--listen",
            "127.0.0.1:0",
            "--token",
            "t1",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    output.read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("Open http://").expect("the address").to_owned();
    let (host, _) = url.split_once('/').expect("a path");
    assert!(url.ends_with("/?token=t1"), "{url}");
    let get = async |authorization: &str| {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut connection = tokio::net::TcpStream::connect(host).await.expect("connects");
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n{authorization}connection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.expect("sends");
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.expect("a reply");
        reply
    };
    assert!(get("").await.starts_with("HTTP/1.1 401"));
    let page = get("authorization: Bearer t1\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("receipts"), "{page}");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("runs").success());
    assert!(child.wait().expect("ends").success());
}
