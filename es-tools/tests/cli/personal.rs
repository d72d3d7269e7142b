//! Personal data: the commands and the pages of an application with a keyring.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use es_core::Personal;
use es_core::feed::Feed;
use es_core::personal::{Keyring, MemoryKeyring, SealedStore, Subject};
use es_core::prelude::*;
use es_dynamo::{DynamoStore, Reconciler};
use es_tools::{Application, Explorer, Store};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tower::ServiceExt;

use crate::support::Place;

/// The personal data, which must not appear on any page.
pub(crate) const NAME: &str = "Ann Planted";

#[event]
pub(crate) struct Joined {
    member: String,
    #[personal(subject = member)]
    name: Personal<String>,
}

#[derive(Aggregate, Clone, Debug, Default, Serialize, Deserialize)]
#[aggregate(name = "member", id = String, events(Joined))]
pub(crate) struct Member {
    name: Option<Personal<String>>,
}

pub(crate) struct Join;

#[handlers]
impl Member {
    #[apply]
    fn joined(&mut self, event: &Joined) {
        self.name = Some(event.name.clone());
    }

    #[handle]
    fn join(&self, _: &Join, ctx: &Context<Self>) -> Events<Self> {
        let joined = Joined { member: ctx.id().clone(), name: NAME.to_owned().into() };
        Events::from(joined).claim_personal("name", NAME)
    }
}

#[derive(Clone, Row, Serialize, Deserialize)]
#[row(name = "members", key = member)]
pub(crate) struct MemberRow {
    member: String,
    #[personal(subject = member)]
    pub(crate) name: Personal<String>,
}

#[derive(Clone, Projection)]
#[projection(name = "directory", events(Member(Joined)))]
pub(crate) struct Directory {
    #[read_model]
    members: ReadModel<MemberRow>,
}

#[handlers]
impl Directory {
    fn new(store: &(impl Feed + Clone)) -> Self {
        Self { members: ReadModel::of::<Self>(store) }
    }

    #[project]
    async fn joined(&mut self, event: &Joined, ctx: &EventContext) -> Result<(), BoxError> {
        Ok(self.members.put(MemberRow { member: ctx.id().to_owned(), name: event.name.clone() })?)
    }
}

pub(crate) fn application() -> Application {
    Application::new("club").aggregate::<Member>().projection(Directory::new)
}

fn with(keyring: &MemoryKeyring) -> Application {
    let keyring = keyring.clone();
    application().keyring(move |_| Some(keyring.clone()))
}

async fn join(store: &DynamoStore, keyring: &MemoryKeyring) {
    let members: Repository<Member> = Repository::new(SealedStore::new(store.clone(), keyring.clone()));
    members.execute("17", Join).await.expect("accepted");
    Reconciler::builder(store).build().run().await.expect("runs");
}

/// Returns the page of the first event.
pub(crate) async fn page(store: impl Into<Store>, application: Application) -> String {
    let router: Router = Explorer::new(store, application).show_payloads().into_router();
    let request = Request::get("/streams/member%2317/1").body(Body::empty()).expect("a request");
    let body = router.oneshot(request).await.expect("answers").into_body();
    let text = String::from_utf8(body.collect().await.expect("a body").to_bytes().to_vec()).expect("UTF-8");
    assert!(!text.contains(NAME), "{text}");
    text
}

#[tokio::test]
async fn the_explorer_loads_states_with_personal_data_and_hides_it() {
    let (store, keyring) = (DynamoStore::embedded().await.expect("opens"), MemoryKeyring::new());
    join(&store, &keyring).await;
    let loaded = page(store.clone(), with(&keyring)).await;
    assert!(loaded.contains("(personal)") && !loaded.contains("cannot be"), "{loaded}");

    keyring.forget(&Subject::new("17").expect("valid")).await.expect("forgotten");
    let forgotten = page(store.clone(), with(&keyring)).await;
    assert!(forgotten.contains("(forgotten)") && !forgotten.contains("(personal)"), "{forgotten}");

    let without = page(store.clone(), application()).await;
    assert!(without.contains("The state cannot be loaded") && without.contains("is sealed"), "{without}");
}

#[tokio::test]
async fn commands_use_the_keyring_of_the_application() {
    let (place, keyring) = (Place::new("personal"), MemoryKeyring::new());
    let store = place.store().await;
    join(&store, &keyring).await;
    let file = place.path("events.db");
    let run = async |application: Application, arguments: &[&str]| {
        let all = ["club", "--file", file.to_str().expect("a path in UTF-8")];
        let code = es_tools::cli_from(application, all.iter().chain(arguments).copied()).await;
        code == std::process::ExitCode::SUCCESS
    };
    for command in
        [&["state", "member", "17"][..], &["claim", "--personal", "name", NAME], &["rebuild", "directory"]]
    {
        assert!(!run(application(), command).await, "{command:?} without the keyring");
        assert!(run(with(&keyring), command).await, "{command:?}");
    }
    let rows = ReadModel::<MemberRow>::of::<Directory>(&SealedStore::new(store, keyring));
    let row = rows.get("17").await.expect("reads").expect("a row");
    assert_eq!(row.name.value().map(String::as_str), Some(NAME));
}
