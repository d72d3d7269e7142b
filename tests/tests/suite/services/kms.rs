//! A master key in KMS: the requests that it takes, its errors, and moving to it. The tests run on a stand-in for KMS
//! in this process, or, in `server`, on moto.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kms::config::retry::RetryPartition;
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kms::{Client, Config};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use es_core::StoreError;
use es_core::personal::{KeyState, Keyring, Personal, SealedStore, Subject, SubjectKey};
use es_core::prelude::*;
use es_core::testing::Faults;
use es_dynamo::keyring::{DynamoKeyring, KmsMasterKey, LocalMasterKey, MasterKey};
use es_dynamo::testing::FaultyConnector;
use es_dynamo::{DynamoStore, embedded};
use es_tools::policy::Feature;
use serde_json::{Value, json};

use crate::personal::domain::{Customer, Move, Register, SendMail, secret};
use crate::personal::keyring_faults::run_all;
use crate::processes::support::Time;

const KEY: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
const OTHER_KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab";
const TABLE: &str = "events-keys";

/// A stand-in for KMS, which is also its connector. It keeps the plaintexts, and its ciphertexts are their numbers.
#[derive(Clone, Debug, Default)]
struct Kms(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    ciphertexts: Vec<Ciphertext>,
    requests: Vec<String>,
    /// The code with which all requests are refused.
    refusal: Option<&'static str>,
    never_answers: bool,
}

#[derive(Debug)]
struct Ciphertext {
    key: Value,
    context: Value,
    plaintext: Value,
}

impl Kms {
    /// Returns a client that reaches KMS through `connector`.
    fn client_through(connector: SharedHttpConnector) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("local", "local", None, None, "unsigned"))
            .retry_partition(RetryPartition::custom("kms").build())
            .http_client(http_client_fn(move |_, _| connector.clone()));
        Client::from_conf(config.build())
    }

    fn master_key(&self, key: &str) -> KmsMasterKey {
        KmsMasterKey::new(Self::client_through(SharedHttpConnector::new(self.clone())), key).expect("an id")
    }

    /// Returns the operations since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no panic").requests)
    }

    fn refuse(&self, code: Option<&'static str>) {
        self.0.lock().expect("no panic").refusal = code;
    }
}

impl Content {
    /// Executes a request.
    fn execute(&mut self, operation: &str, request: &Value) -> Result<Value, &'static str> {
        self.requests.push(operation.to_owned());
        if let Some(code) = self.refusal {
            return Err(code);
        }
        let (key, context) = (request["KeyId"].clone(), request["EncryptionContext"].clone());
        let plaintext = match operation {
            "GenerateDataKey" => {
                assert_eq!(request["KeySpec"], "AES_256");
                json!(STANDARD.encode(SubjectKey::generate().expect("random").as_bytes()))
            }
            "Encrypt" => request["Plaintext"].clone(),
            "Decrypt" => {
                let number = STANDARD.decode(request["CiphertextBlob"].as_str().expect("a ciphertext"));
                let number = number.ok().and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
                let found = number.and_then(|number| self.ciphertexts.get(number as usize));
                let found = found.ok_or("InvalidCiphertextException")?;
                return match (found.key == key, found.context == context) {
                    (true, true) => Ok(json!({ "KeyId": key, "Plaintext": found.plaintext })),
                    (false, _) => Err("IncorrectKeyException"),
                    (true, false) => Err("InvalidCiphertextException"),
                };
            }
            other => panic!("an unexpected operation: {other}"),
        };
        let ciphertext = STANDARD.encode(u32::try_from(self.ciphertexts.len()).expect("few").to_be_bytes());
        let response = match operation {
            "Encrypt" => json!({ "KeyId": key, "CiphertextBlob": ciphertext }),
            _ => json!({ "KeyId": key, "CiphertextBlob": ciphertext, "Plaintext": plaintext }),
        };
        self.ciphertexts.push(Ciphertext { key, context, plaintext });
        Ok(response)
    }
}

impl HttpConnector for Kms {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").expect("an operation");
        let operation = target.strip_prefix("TrentService.").expect("an operation of KMS").to_owned();
        let body = serde_json::from_slice(request.body().bytes().expect("a body")).expect("JSON");
        let mut content = self.0.lock().expect("no panic");
        if content.never_answers {
            return HttpConnectorFuture::new(std::future::pending());
        }
        let (status, body) = match content.execute(&operation, &body) {
            Ok(body) => (200, body),
            Err(code @ ("KMSInternalException" | "KeyUnavailableException")) => {
                (500, json!({ "__type": code }))
            }
            Err(code @ "DependencyTimeoutException") => (503, json!({ "__type": code })),
            Err(code @ ("DisabledException" | "KMSInvalidStateException")) => {
                (409, json!({ "__type": code }))
            }
            Err(code) => (400, json!({ "__type": code, "message": "on purpose" })),
        };
        let status = status.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body.to_string()))))
    }
}

fn subject(id: &str) -> Subject {
    Subject::new(id).expect("valid")
}

/// Creates a store with a table of keys. Its requests are executed immediately on the sending thread, so that paused time
/// does not advance during a request.
async fn store() -> DynamoStore {
    let engine = embedded::Engine::in_memory().expect("starts");
    let config = engine.config_through(SharedHttpConnector::new(engine.connector().in_place()));
    let client = aws_sdk_dynamodb::Client::from_conf(config.build());
    let store = DynamoStore::builder().client(client).build().expect("a valid table name");
    store.create_table().await.expect("created");
    DynamoKeyring::builder(store.client(), LocalMasterKey::new([1; 32]))
        .build()
        .create_table()
        .await
        .expect("created");
    store
}

fn keyring(store: &DynamoStore, master_key: impl MasterKey) -> DynamoKeyring {
    DynamoKeyring::builder(store.client(), master_key).clock(Time).build()
}

/// Returns the customers as another process knows them, without cached keys.
fn customers(store: &DynamoStore, master_key: impl MasterKey) -> Repository<Customer> {
    Repository::new(SealedStore::new(store.clone(), keyring(store, master_key)))
}

#[tokio::test(start_paused = true)]
async fn a_key_takes_one_request_to_kms_while_it_is_cached() {
    let (store, kms) = (store().await, Kms::default());
    let here = customers(&store, kms.master_key(KEY));
    here.execute("17", Register { name: secret("17") }).await.expect("accepted");
    assert_eq!(kms.requests(), ["GenerateDataKey"], "the first event of a subject");
    here.execute("17", Move { street: secret("17") }).await.expect("accepted");
    here.execute("17", SendMail).await.expect("accepted");
    here.load("17").await.expect("loaded");
    assert!(kms.requests().is_empty(), "the next ones");

    let elsewhere = customers(&store, kms.master_key(KEY));
    elsewhere.execute("17", Move { street: secret("17") }).await.expect("accepted");
    assert_eq!(kms.requests(), ["Decrypt"], "a command in another process, which loads and appends");
    // Otherwise, a snapshot that is still to be written would need the key again.
    for customers in [&here, &elsewhere] {
        customers.flush().await;
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    let loaded = elsewhere.load("17").await.expect("loaded");
    assert_eq!(kms.requests(), ["Decrypt"], "after a minute");
    assert_eq!(loaded.state.name, Some(Personal::from(secret("17"))));

    // All subjects of a page, once each. A retry continues with those that are not cached.
    let subjects: Vec<_> = (0..25).map(|number| subject(&number.to_string())).collect();
    keyring(&store, kms.master_key(KEY)).keys_or_create(&subjects).await.expect("created");
    let generated: HashSet<_> = kms.requests().into_iter().collect();
    assert_eq!(generated, HashSet::from(["GenerateDataKey".to_owned(), "Decrypt".to_owned()]));
    let cold = keyring(&store, kms.master_key(KEY));
    cold.keys(&subjects).await.expect("read");
    assert_eq!(kms.requests(), vec!["Decrypt"; 25]);

    cold.forget(&subjects[0]).await.expect("forgotten");
    let cold = keyring(&store, kms.master_key(KEY));
    assert_eq!(cold.keys(&subjects[..1]).await.expect("read"), [KeyState::Forgotten]);
    assert!(kms.requests().is_empty(), "a forgotten key takes none");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_read_continues_where_it_stopped() {
    /// Executes the first requests, and throttles the others.
    #[derive(Clone, Debug)]
    struct Quota(Kms, Arc<Mutex<u32>>);
    impl HttpConnector for Quota {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let mut left = self.1.lock().expect("no panic");
            self.0.refuse((*left == 0).then_some("ThrottlingException"));
            *left = left.saturating_sub(1);
            self.0.call(request)
        }
    }

    let (store, kms) = (store().await, Kms::default());
    let subjects: Vec<_> = (0..30).map(|number| subject(&number.to_string())).collect();
    keyring(&store, kms.master_key(KEY)).keys_or_create(&subjects).await.expect("created");
    let quota = Quota(kms.clone(), Arc::default());
    let client = Kms::client_through(SharedHttpConnector::new(quota.clone()));
    let keyring = keyring(&store, KmsMasterKey::new(client, KEY).expect("an id"));
    for calls in 1.. {
        *quota.1.lock().expect("no panic") = 20;
        match keyring.keys(&subjects).await {
            Ok(states) => {
                assert!(states.iter().all(|state| matches!(state, KeyState::Known(_))));
                assert_eq!(calls, 2);
                break;
            }
            Err(error) => assert!(matches!(error, StoreError::Throttled(_)) && calls < 2, "{calls}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_wrapped_key_belongs_to_its_subject_and_its_table() {
    let (store, kms) = (store().await, Kms::default());
    let [ann, bob] = ["ann", "bob"].map(subject);
    let key = keyring(&store, kms.master_key(KEY))
        .keys_or_create(std::slice::from_ref(&ann))
        .await
        .expect("created");
    let context = kms.0.lock().expect("no panic").ciphertexts[0].context.clone();
    assert_eq!(context, json!({ "es:table": TABLE, "es:subject": "ann" }));

    // Copied to another subject.
    let client = store.client();
    let stored =
        client.get_item().table_name(TABLE).key("pk", AttributeValue::S("ann".to_owned())).send().await;
    let mut item: HashMap<_, _> = stored.expect("read").item.expect("an item");
    assert_eq!(item["m"], AttributeValue::S(format!("kms:{KEY}")));
    item.insert("pk".to_owned(), AttributeValue::S("bob".to_owned()));
    client.put_item().table_name(TABLE).set_item(Some(item.clone())).send().await.expect("written");
    let error = keyring(&store, kms.master_key(KEY)).keys(&[bob]).await.expect_err("of another subject");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");

    // Restored to a table with another name, or copied there.
    let restored = || DynamoKeyring::builder(client, kms.master_key(KEY)).table("restored");
    restored().build().create_table().await.expect("created");
    item.insert("pk".to_owned(), AttributeValue::S("ann".to_owned()));
    client.put_item().table_name("restored").set_item(Some(item)).send().await.expect("written");
    let ann = [ann];
    let error = restored().build().keys(&ann).await.expect_err("of another table");
    assert!(
        matches!(error, StoreError::Corrupt { .. }) && error.to_string().contains("`original_table`"),
        "{error}"
    );
    let original = restored().original_table(TABLE).build();
    assert_eq!(original.keys(&ann).await.expect("read"), key);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_kms_says_what_to_do_and_never_looks_like_a_forgotten_subject() {
    let (store, kms) = (store().await, Kms::default());
    let here = customers(&store, kms.master_key(KEY));
    here.execute("17", Register { name: secret("17") }).await.expect("accepted");
    let cases = [
        ("DisabledException", "is disabled: enable it"),
        ("KMSInvalidStateException", "cancel the deletion"),
        ("NotFoundException", "check its id, and the region"),
        ("AccessDeniedException", "permit kms:GenerateDataKey and kms:Decrypt"),
        ("InvalidKeyUsageException", "use a symmetric encryption key"),
        ("ExpiredTokenException", "the credentials have expired"),
        ("ThrottlingException", ""),
        ("LimitExceededException", ""),
        ("KMSInternalException", ""),
        ("KeyUnavailableException", ""),
        ("DependencyTimeoutException", ""),
    ];
    for (code, advice) in cases {
        kms.refuse(Some(code));
        let read = customers(&store, kms.master_key(KEY)).load("17").await.expect_err("refused");
        let created = here.execute("18", Register { name: secret("18") }).await.expect_err("refused");
        let ExecuteError::Store(created) = created else { panic!("{code}: {created}") };
        for error in [read, created] {
            let is_expected = match (code, &error) {
                ("ThrottlingException" | "LimitExceededException", StoreError::Throttled(_)) => true,
                (
                    "KMSInternalException" | "KeyUnavailableException" | "DependencyTimeoutException",
                    error,
                ) => {
                    matches!(error, StoreError::Unavailable(_))
                }
                (_, StoreError::Setup { reason, .. }) => reason.contains(advice) && !error.is_retryable(),
                _ => false,
            };
            assert!(is_expected && error.is_transient(), "{code}: {error:?}");
        }
    }
    kms.refuse(None);
    let loaded = customers(&store, kms.master_key(KEY)).load("17").await.expect("loaded");
    assert_eq!(loaded.state.name, Some(Personal::from(secret("17"))));
    assert!(!here.exists("18").await.expect("read"), "nothing was recorded without a key");
}

#[tokio::test(start_paused = true)]
async fn requests_to_kms_have_time_limits() {
    let kms = Kms::default();
    kms.0.lock().expect("no panic").never_answers = true;
    let start = tokio::time::Instant::now();
    let error = kms.master_key(KEY).generate(TABLE, &subject("ann")).await.expect_err("no response");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
}

#[tokio::test]
async fn keys_can_move_to_kms_and_to_another_kms_key() {
    let (store, kms) = (store().await, Kms::default());
    let local = || LocalMasterKey::new([1; 32]);
    let subjects = ["ann", "bob", "eve"].map(subject);
    let before = keyring(&store, local());
    let keys = before.keys_or_create(&subjects).await.expect("created");
    before.forget(&subjects[2]).await.expect("forgotten");
    let expected = [keys[0].clone(), keys[1].clone(), KeyState::Forgotten];

    let during =
        DynamoKeyring::builder(store.client(), kms.master_key(KEY)).previous_master_key(local()).build();
    assert_eq!(during.rewrap().await.expect("rewrapped"), 2);
    assert_eq!(kms.requests(), ["Encrypt", "Encrypt"]);
    assert_eq!(keyring(&store, kms.master_key(KEY)).keys(&subjects).await.expect("read"), expected);
    kms.requests();

    let during = DynamoKeyring::builder(store.client(), kms.master_key(OTHER_KEY));
    let during = during.previous_master_key(kms.master_key(KEY)).build();
    assert_eq!(during.rewrap().await.expect("rewrapped"), 2);
    assert_eq!(kms.requests(), ["Decrypt", "Encrypt", "Decrypt", "Encrypt"]);
    assert_eq!(during.rewrap().await.expect("rewrapped before"), 0);
    // The id of the key is enough, and is the same in each region.
    let id = OTHER_KEY.rsplit('/').next().expect("an id");
    assert_eq!(kms.master_key(OTHER_KEY).id(), kms.master_key(id).id());
    assert_eq!(keyring(&store, kms.master_key(OTHER_KEY)).keys(&subjects).await.expect("read"), expected);
}

#[test]
fn an_alias_is_not_a_master_key() {
    let client = || Kms::client_through(SharedHttpConnector::new(Kms::default()));
    for alias in ["", "alias/events", "arn:aws:kms:us-east-1:111122223333:alias/events", "key/"] {
        let error = KmsMasterKey::new(client(), alias).expect_err("refused");
        assert!(error.to_string().contains("use the id or the ARN of a key"), "{error}");
    }
}

#[tokio::test]
async fn the_templates_permit_the_requests_to_kms_and_no_others() {
    let (store, kms) = (store().await, Kms::default());
    let used = || kms.requests().iter().map(|operation| format!("kms:{operation}")).collect::<BTreeSet<_>>();
    let permitted = |feature: Feature| {
        feature.kms_actions().iter().map(|action| (*action).to_owned()).collect::<BTreeSet<_>>()
    };
    let ann = [subject("ann")];
    for _ in 0..2 {
        keyring(&store, kms.master_key(KEY)).keys_or_create(&ann).await.expect("known");
    }
    assert_eq!(used(), permitted(Feature::Kms));
    let rotating = DynamoKeyring::builder(store.client(), kms.master_key(OTHER_KEY));
    rotating.previous_master_key(kms.master_key(KEY)).build().rewrap().await.expect("rewrapped");
    assert_eq!(used(), permitted(Feature::KeyRotation));
}

/// The same faults as for a master key in the process, and those of KMS.
#[test]
fn nothing_acknowledged_is_unreadable_and_nothing_forgotten_comes_back() {
    run_all("keyring with KMS", 12, || {
        let kms = Kms::default();
        Box::new(move |store, faults| {
            let faults = faults.cloned().unwrap_or_else(|| Faults::seeded(0));
            let connector = FaultyConnector::new(kms.clone(), faults).into_shared();
            let master_key = KmsMasterKey::new(Kms::client_through(connector), KEY).expect("an id");
            DynamoKeyring::builder(store.client(), master_key).clock(Time).build()
        })
    });
}

/// Tests on the server at `ES_MOTO_ENDPOINT`, which `scripts/moto` starts. Without it, they are ignored.
mod server {
    use super::*;

    const ENDPOINT: &str = "ES_MOTO_ENDPOINT";

    fn client() -> Client {
        let url = std::env::var(ENDPOINT).unwrap_or_else(|_| {
            panic!("{ENDPOINT} names no server: `scripts/moto COMMAND` starts one and runs the command")
        });
        KmsMasterKey::client_at(url)
    }

    async fn new_key(client: &Client) -> String {
        let created = client.create_key().send().await.expect("created");
        created.key_metadata.expect("a key").arn.expect("an ARN")
    }

    fn master_key(client: &Client, key: &str) -> KmsMasterKey {
        KmsMasterKey::new(client.clone(), key).expect("an ARN")
    }

    #[tokio::test]
    #[ignore = "needs a KMS-compatible server: `just test-services`"]
    async fn values_are_readable_until_their_subject_is_forgotten() {
        let (store, client) = (store().await, client());
        let key = new_key(&client).await;
        let here = customers(&store, master_key(&client, &key));
        for id in ["17", "18"] {
            here.execute(id, Register { name: secret(id) }).await.expect("accepted");
        }
        let name = async |id: &str| {
            let loaded = customers(&store, master_key(&client, &key)).load(id).await.expect("loaded");
            loaded.state.name.expect("registered").into_value()
        };
        assert_eq!(name("17").await, Some(secret("17")));
        client.rotate_key_on_demand().key_id(&key).send().await.expect("rotated");
        assert_eq!(name("17").await, Some(secret("17")), "after the rotation of the key material");

        keyring(&store, master_key(&client, &key)).forget(&subject("17")).await.expect("forgotten");
        assert_eq!((name("17").await, name("18").await), (None, Some(secret("18"))));
        let error = here.execute("19", Register { name: secret("19") }).await;
        assert!(error.is_ok(), "other subjects are recorded");
    }

    #[tokio::test]
    #[ignore = "needs a KMS-compatible server: `just test-services`"]
    async fn keys_can_move_and_belong_to_their_subject_and_table() {
        let (store, client) = (store().await, client());
        let (first, second) = (new_key(&client).await, new_key(&client).await);
        let subjects = ["ann", "bob"].map(subject);
        let local = LocalMasterKey::new([1; 32]);
        let keys = keyring(&store, local.clone()).keys_or_create(&subjects).await.expect("created");
        let builder = |key: &str| DynamoKeyring::builder(store.client(), master_key(&client, key));
        for (during, after) in [
            (builder(&first).previous_master_key(local), builder(&first)),
            (builder(&second).previous_master_key(master_key(&client, &first)), builder(&second)),
        ] {
            assert_eq!(during.build().rewrap().await.expect("rewrapped"), 2);
            assert_eq!(after.build().keys(&subjects).await.expect("read"), keys);
        }

        let key = master_key(&client, &second);
        let (_, wrapped) = key.generate(TABLE, &subjects[0]).await.expect("generated");
        for (table, subject) in [("others", &subjects[0]), (TABLE, &subjects[1])] {
            let error = key.unwrap(table, subject, &wrapped).await.expect_err("refused");
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        }
        let missing = master_key(&client, "00000000-0000-0000-0000-000000000000");
        let error = missing.generate(TABLE, &subjects[0]).await.expect_err("no such key");
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
